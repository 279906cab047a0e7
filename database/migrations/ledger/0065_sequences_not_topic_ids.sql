-- Nothing ever wrote or read it: a topic that was made anew goes on with the sequences of the old one, and they tell
-- what is a repeat, what is missing, and whether the ledger was set back.
ALTER TABLE pipeline.consumer_positions DROP COLUMN topic_id;
