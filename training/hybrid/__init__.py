"""How the bundled Vision Transformer is made: maps of its frozen trunk on disk, then distillation from them."""
