"""What the raw servers share: connections, attempts and the driver as callbacks, on any loop's transports."""
