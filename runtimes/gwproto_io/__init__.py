"""What every runtime shares: HTTP/1.1 without I/O, connections to providers, and the awaiting driver."""
