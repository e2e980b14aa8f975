"""RongCloud's own SDKs, as published, against a live Gate with only the host changed; and requests as they really send them."""
