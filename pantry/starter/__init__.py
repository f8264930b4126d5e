"""The starter model as package data: `starter.gguf`, made by `examples/starter`, and its card, `CARD.md`."""
