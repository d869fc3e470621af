"""The language model behind the prefix: its two kinds behind one interface, and loading either.

`LanguageModelKind` (`base`) is the interface, `EncoderDecoder` and `DecoderOnly` are the kinds.
"""
