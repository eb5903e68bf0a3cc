"""The server: a key-value store over HTTP, replicated by Raft across nodes, each on the engine of its choice."""
