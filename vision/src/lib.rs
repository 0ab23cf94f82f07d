//! Pictures to patch features: decode, resize, tile, normalise, RW-ViTDet and ViT encoders.
