"""The Replica, tested part by part, then as a whole on real servers with every fault that it promises to survive."""
