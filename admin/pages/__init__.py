"""The pages, for people: rendered here, made livelier by htmx; all of them work without script too."""
