"""prunella's own tables: the only room that knows SQL for them. Truth lives here; everything else can be rebuilt."""
