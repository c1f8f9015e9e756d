"""What a deployment needs besides requests: configuration and secrets, access log, console page, state directory."""
