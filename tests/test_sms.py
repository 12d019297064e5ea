"""How texts travel as SMS."""

import gsm0338  # type: ignore[import-untyped] # it has no types
import pytest

from service import sms


@pytest.mark.parametrize(
    ("text", "encoding", "length", "segments", "reason"),
    [
        ("", "GSM-7", 0, 1, "an empty message is one"),
        ("a" * 160, "GSM-7", 160, 1, "fits"),
        ("a" * 161, "GSM-7", 161, 2, "seven places go to the header"),
        ("a" * 306, "GSM-7", 306, 2, "twice 153"),
        ("a" * 307, "GSM-7", 307, 3, "and one"),
        ("€" * 80, "GSM-7", 160, 1, "two places each"),
        ("a" * 159 + "€", "GSM-7", 161, 2, "one too many"),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 306, 3, "an escape is not cut from its character"),
        ("é\n£", "GSM-7", 3, 1, "some letters are in the alphabet"),
        ("ê", "UCS-2", 1, 1, "most are not"),
        ("`", "UCS-2", 1, 1, "nor is this"),
        ("\t", "UCS-2", 1, 1, "nor the tab"),
        ("я" * 70, "UCS-2", 70, 1, "fits"),
        ("я" * 71, "UCS-2", 71, 2, "three places go to the header"),
        ("я" * 134, "UCS-2", 134, 2, "twice 67"),
        ("я" * 135, "UCS-2", 135, 3, "and one"),
        ("😀" * 35, "UCS-2", 70, 1, "two units each"),
        ("😀" * 36, "UCS-2", 72, 2, "too many"),
        ("я" * 66 + "😀" + "я" * 66, "UCS-2", 134, 3, "a pair is not cut"),
    ],
)
def test_a_text_is_measured(
    text: str, encoding: str, length: int, segments: int, reason: str
) -> None:
    assert sms.size(text) == sms.Size(encoding, length, segments), reason  # type: ignore[arg-type]


def test_the_alphabet_is_the_one_that_an_independent_codec_knows() -> None:
    codec = gsm0338.Codec()
    for character in set(map(chr, range(0x10000))) - {"\x1b"}:  # itself no character
        size = sms.size(character)
        try:
            septets, _ = codec.encode(character)
        except UnicodeEncodeError:
            assert size.encoding == "UCS-2", character
        else:
            assert (size.encoding, size.length) == ("GSM-7", len(septets)), character
