//! Tensors by name out of a memory map, linear layers of any bits, norms, the encoder layer.
