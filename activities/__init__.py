"""Effects that a workflow may retry. Every one of them may run twice and has its effect once."""
