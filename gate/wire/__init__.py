"""The RESP port: a sans-I/O reader and replies, a table of commands, and a thin asyncio adapter around them."""
