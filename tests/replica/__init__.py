"""The Replica, proved part by part, then whole on real servers with every fault that it promises to survive."""
