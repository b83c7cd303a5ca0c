"""Commands about a shop's keys, customers, audiences and data, and the workspace's care."""
