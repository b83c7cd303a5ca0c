"""Commands about a shop's keys, its customers' identities and data, and the workspace's care."""
