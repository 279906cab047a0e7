-- The questions of reconciliation. Each statement gives (kind, subject, position, expected, found) for what is wrong.
-- Parameters: slot, topic, since, until, client_id, whole (no limits of time).

-- Raw objects are a chain: each names the end of the one before.
SELECT CASE WHEN previous_position < last_before THEN 'raw_overlap' ELSE 'raw_chain' END AS kind, key AS subject,
       first_position::text AS position, coalesce(last_before, 'the first') AS expected,
       coalesce(previous_position::text, 'the first') AS found
  FROM (SELECT key, first_position, previous_position, lag(last_position::text) OVER w AS last_before,
               row_number() OVER w AS n FROM pipeline.raw_objects WINDOW w AS (ORDER BY first_position)) o
 WHERE previous_position::text IS DISTINCT FROM last_before AND (n > 1 OR previous_position IS NULL)
 ORDER BY first_position LIMIT 1000;

-- No two objects hold the same position.
SELECT 'raw_double' AS kind, key AS subject, first_position::text AS position, 'after ' || last_before AS expected,
       first_position::text AS found
  FROM (SELECT key, first_position, max(last_position::text) OVER (ORDER BY first_position
               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last_before FROM pipeline.raw_objects) o
 WHERE first_position::text <= last_before ORDER BY first_position LIMIT 1000;

-- The stream's tail is the last object.
SELECT 'raw_tail' AS kind, 'slot ' || slot AS subject, coalesce(last_position::text, '') AS position,
       coalesce((SELECT max(last_position::text) FROM pipeline.raw_objects), 'none') AS expected,
       coalesce(last_position::text, 'none') AS found
  FROM pipeline.stream_state
 WHERE slot = %(slot)s
   AND last_position::text IS DISTINCT FROM (SELECT max(last_position::text) FROM pipeline.raw_objects);

-- An object's events are the sum of its counts.
SELECT 'raw_count' AS kind, o.key AS subject, o.first_position::text AS position, o.events::text AS expected,
       coalesce(c.events, 0)::text AS found
  FROM pipeline.raw_objects o
  LEFT JOIN (SELECT raw_object_id, sum(events)::bigint AS events FROM pipeline.raw_counts GROUP BY 1) c
    ON c.raw_object_id = o.id
 WHERE o.events IS DISTINCT FROM c.events
   AND o.max_commit_time >= coalesce(%(since)s, '-infinity'::timestamptz)
   AND o.min_commit_time < coalesce(%(until)s, 'infinity'::timestamptz)
 ORDER BY o.first_position LIMIT 1000;

-- Nothing is in raw objects that was never sent: sequences are dense, so they count what was sent.
WITH tail AS (
    SELECT kafka_end_sequences AS sequences FROM pipeline.raw_objects ORDER BY last_position DESC LIMIT 1
), sent AS (
    SELECT coalesce(sum(greatest(coalesce(t.last_sequence, -1), coalesce(c.last_sequence, -1)) + 1), 0)::bigint AS events
      FROM (SELECT partition::int, last_sequence::bigint
              FROM tail, jsonb_each_text(tail.sequences) AS e (partition, last_sequence)) t
      FULL JOIN (SELECT partition, last_sequence FROM pipeline.consumer_positions WHERE topic = %(topic)s) c
        USING (partition)
), recorded AS (
    SELECT coalesce(sum(events), 0)::bigint AS events FROM pipeline.raw_objects
)
SELECT 'raw_unsent' AS kind, 'raw objects together' AS subject, '' AS position,
       'at most ' || sent.events AS expected, recorded.events::text AS found
  FROM sent, recorded WHERE recorded.events > sent.events;

-- A partition's chunks, and what retention took of them, add up to its last sequence.
SELECT 'partition_count' AS kind, c.topic || '-' || c.partition AS subject, c.last_position::text AS position,
       (c.last_sequence + 1)::text AS expected, coalesce(n.events, 0)::text AS found
  FROM pipeline.consumer_positions c
  LEFT JOIN (SELECT topic, partition, sum(events)::bigint AS events
               FROM (SELECT k.topic, k.partition, n.events
                       FROM pipeline.chunks k JOIN pipeline.chunk_counts n ON n.chunk_id = k.id
                      WHERE n.disposition <> 'repeat'
                      UNION ALL SELECT topic, partition, events FROM pipeline.retired_counts) e
              GROUP BY 1, 2) n USING (topic, partition)
 WHERE c.last_sequence + 1 <> coalesce(n.events, 0) AND %(whole)s
 ORDER BY c.partition;

-- Chunks of a partition lie one behind the other.
SELECT CASE WHEN first_offset > next_before THEN 'chunk_gap' ELSE 'chunk_overlap' END AS kind,
       topic || '-' || partition || ' chunk ' || id AS subject, first_position::text AS position,
       'offset ' || next_before AS expected, 'offset ' || first_offset AS found
  FROM (SELECT id, topic, partition, first_offset, first_position,
               lag(next_offset) OVER w AS next_before, lag(last_position::text) OVER w AS last_before
          FROM pipeline.chunks WINDOW w AS (PARTITION BY topic, partition ORDER BY first_offset, next_offset)) k
 WHERE first_offset > next_before OR (first_offset < next_before AND first_position::text <= last_before)
 ORDER BY topic, partition, first_offset LIMIT 1000;

-- The last chunk ends where its partition stands.
SELECT 'chunk_end' AS kind, c.topic || '-' || c.partition AS subject, c.last_position::text AS position,
       'offset ' || c.next_offset AS expected, 'offset ' || k.next_offset AS found
  FROM pipeline.consumer_positions c
  JOIN (SELECT topic, partition, max(next_offset) AS next_offset FROM pipeline.chunks GROUP BY 1, 2) k
 USING (topic, partition)
 WHERE c.next_offset <> k.next_offset ORDER BY c.partition;

-- What a chunk counts is in its objects of now: a replay or a release changes both together.
WITH counted AS (
    SELECT chunk_id, hour, client_id, CASE disposition WHEN 'out' THEN 'client' ELSE disposition END AS kind,
           sum(events)::bigint AS events
      FROM pipeline.chunk_counts WHERE disposition IN ('out', 'quarantine', 'held', 'dead_letter')
       AND hour >= coalesce(%(since)s, '-infinity'::timestamptz) AND hour < coalesce(%(until)s, 'infinity'::timestamptz)
     GROUP BY 1, 2, 3, 4
), held AS (
    SELECT chunk_id, hour, client_id, kind, sum(events)::bigint AS events, string_agg(key, ', ' ORDER BY key) AS keys
      FROM pipeline.processed_objects
     WHERE hour >= coalesce(%(since)s, '-infinity'::timestamptz) AND hour < coalesce(%(until)s, 'infinity'::timestamptz)
       AND superseded_by IS NULL
     GROUP BY 1, 2, 3, 4
)
SELECT 'chunk_object' AS kind,
       coalesce(h.keys, 'chunk ' || chunk_id || ' ' || kind || ' ' || client_id || ' ' || hour) AS subject,
       k.first_position::text AS position, coalesce(c.events, 0)::text AS expected, coalesce(h.events, 0)::text AS found
  FROM counted c FULL JOIN held h USING (chunk_id, hour, client_id, kind) JOIN pipeline.chunks k ON k.id = chunk_id
 WHERE c.events IS DISTINCT FROM h.events AND client_id = coalesce(%(client_id)s, client_id)
 ORDER BY k.first_position LIMIT 1000;

-- Hour by hour and by the client that the source names: what was exported is what was processed, within what is on its
-- way: objects that aren't processed to their end, and events of Kafka that no object holds yet (recent hours only).
WITH whole AS (
    SELECT r.last_position FROM pipeline.raw_objects r
     WHERE NOT EXISTS (
        SELECT FROM jsonb_each_text(r.kafka_end_sequences) AS e (partition, last_sequence)
        LEFT JOIN pipeline.consumer_positions c ON c.topic = %(topic)s AND c.partition = e.partition::int
        WHERE e.last_sequence::bigint > coalesce(c.last_sequence, -1))
     ORDER BY r.last_position DESC LIMIT 1
), tail AS (
    SELECT kafka_end_sequences AS sequences, max_commit_time FROM pipeline.raw_objects ORDER BY last_position DESC LIMIT 1
), ahead AS (
    SELECT coalesce(sum(greatest(0, c.last_sequence - coalesce((tail.sequences ->> c.partition::text)::bigint, -1))), 0)
               AS events
      FROM pipeline.consumer_positions c LEFT JOIN tail ON true WHERE c.topic = %(topic)s
), raw AS (
    SELECT n.hour, n.source_client_id, sum(n.events)::bigint AS events,
           coalesce(sum(n.events) FILTER (WHERE NOT EXISTS (SELECT FROM whole) OR o.last_position > whole.last_position), 0)
               AS on_its_way, max(o.last_position::text) AS position
      FROM pipeline.raw_counts n JOIN pipeline.raw_objects o ON o.id = n.raw_object_id LEFT JOIN whole ON true
     GROUP BY 1, 2
), processed AS (
    SELECT n.hour, n.source_client_id, sum(n.events)::bigint AS events FROM pipeline.chunk_counts n
     WHERE n.disposition <> 'repeat' GROUP BY 1, 2
)
SELECT 'hour_count' AS kind,
       'hour ' || to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24"Z"') || ' source client '
           || CASE source_client_id WHEN '' THEN '(none)' WHEN '!' THEN '(no id)' ELSE source_client_id END AS subject,
       coalesce(r.position, '') AS position, coalesce(r.events, 0) || ' exported' AS expected,
       coalesce(p.events, 0) || ' processed' AS found
  FROM raw r FULL JOIN processed p USING (hour, source_client_id)
 WHERE hour >= coalesce(%(since)s, '-infinity'::timestamptz) AND hour < coalesce(%(until)s, 'infinity'::timestamptz)
   AND hour >= coalesce((SELECT horizon FROM pipeline.retention), '-infinity'::timestamptz)
   AND source_client_id = coalesce(%(client_id)s, source_client_id)
   AND (coalesce(r.events, 0) - coalesce(p.events, 0) > coalesce(r.on_its_way, 0)
        OR coalesce(p.events, 0) - coalesce(r.events, 0) > CASE
            WHEN hour + interval '1 hour 1 minute' < (SELECT max_commit_time FROM tail) THEN 0
            ELSE (SELECT events FROM ahead) END)
 ORDER BY hour, source_client_id LIMIT 1000;

-- A delivered file holds what its members of now hold, but for what the policy took away on the way. One that is about to
-- be built again holds what it held; one that was, what was put last.
SELECT 'delivery_count' AS kind, f.key AS subject, '' AS position, coalesce(m.events, 0)::text AS expected,
       coalesce(p.events, f.events) || ' and ' || coalesce(p.dropped_at_delivery, f.dropped_at_delivery) || ' dropped'
           AS found
  FROM pipeline.delivery_files f JOIN pipeline.sync_runs r ON r.id = f.run_id
  LEFT JOIN (SELECT file_id, sum(o.events)::bigint AS events FROM pipeline.delivery_members
               JOIN pipeline.processed_objects o ON o.id = processed_object_id AND o.superseded_by IS NULL
              GROUP BY 1) m ON m.file_id = f.id
  LEFT JOIN LATERAL (SELECT * FROM pipeline.delivery_replacements p WHERE p.file_id = f.id AND p.state = 'delivered'
                      ORDER BY p.id DESC LIMIT 1) p ON true
 WHERE f.state = 'delivered'
   AND coalesce(p.events, f.events) + coalesce(p.dropped_at_delivery, f.dropped_at_delivery) <> coalesce(m.events, 0)
   AND NOT EXISTS (SELECT FROM pipeline.delivery_replacements x WHERE x.file_id = f.id AND x.state = 'open')
   AND f.hour >= coalesce(%(since)s, '-infinity'::timestamptz) AND f.hour < coalesce(%(until)s, 'infinity'::timestamptz)
   AND r.client_id = coalesce(%(client_id)s, r.client_id)
 ORDER BY f.id LIMIT 1000;

-- A finished run has delivered all its files.
SELECT 'delivery_unfinished' AS kind, f.key AS subject, '' AS position, 'delivered' AS expected, f.state AS found
  FROM pipeline.delivery_files f JOIN pipeline.sync_runs r ON r.id = f.run_id
 WHERE r.status = 'finished' AND f.state <> 'delivered' AND r.client_id = coalesce(%(client_id)s, r.client_id)
 ORDER BY f.id LIMIT 1000;

-- A manifest names the run's files, with their events and digests.
SELECT 'manifest_count' AS kind, r.client_id || ' run ' || r.run_key || ': ' || x.key AS subject, '' AS position,
       coalesce(x.events || ' events ' || x.sha256, 'no such file') AS expected,
       coalesce(x.named_events || ' events ' || x.named_sha256, 'not in the manifest') AS found
  FROM pipeline.sync_runs r
 CROSS JOIN LATERAL (
    SELECT key, f.events, f.sha256, m.events AS named_events, m.sha256 AS named_sha256
      FROM (SELECT key, events, sha256 FROM pipeline.delivery_files WHERE run_id = r.id) f
      FULL JOIN (SELECT e ->> 'key' AS key, (e ->> 'events')::bigint AS events, e ->> 'sha256' AS sha256
                   FROM json_array_elements(r.manifest -> 'files') e) m USING (key)) x
 WHERE r.status = 'finished' AND r.manifest IS NOT NULL AND r.client_id = coalesce(%(client_id)s, r.client_id)
   AND (x.events, x.sha256) IS DISTINCT FROM (x.named_events, x.named_sha256)
 ORDER BY r.id LIMIT 1000;

-- What the cleaner refuses, and what was deleted on no evidence.
SELECT CASE WHEN deleted_at IS NULL THEN 'cleanup_refused' ELSE 'deleted_unverified' END AS kind, key AS subject,
       first_position::text AS position,
       CASE WHEN deleted_at IS NULL THEN 'a sound object' ELSE 'verified, stamped, deleted' END AS expected,
       coalesce(cleanup_problem, 'verified ' || coalesce(verified_at::text, 'never') || ', stamped '
                || coalesce(stamped_at::text, 'never')) AS found
  FROM pipeline.raw_objects
 WHERE (deleted_at IS NULL AND cleanup_problem IS NOT NULL)
    OR (deleted_at IS NOT NULL AND (verified_at IS NULL OR stamped_at IS NULL OR stamped_at > deleted_at))
    OR deleted_rows > events
 ORDER BY first_position LIMIT 1000;
