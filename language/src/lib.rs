//! Token ids and image tokens to text: tokenizer, chat template, decoder, KV cache, sampling.
