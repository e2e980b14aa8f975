"""RongCloud's own SDKs, as they are published, against a live Gate with only the host changed; and requests as they send them."""
