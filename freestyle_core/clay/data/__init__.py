"""What the clay models learn from: shards of heads and pairs, edits, and the tokenizer."""
