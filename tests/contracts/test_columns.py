"""The columns of decoded events, as they are in memory and in files."""

import pyarrow as pa

from contracts.columns import EVENT, KINDS, utf8
from contracts.events import MODELS


def test_files_have_the_same_columns_with_strings_for_codes() -> None:
    for coded, plain in zip(EVENT, utf8(EVENT), strict=True):
        kind = pa.string() if pa.types.is_dictionary(coded.type) else coded.type
        assert plain == coded.with_type(kind)


def test_there_is_a_model_for_each_kind() -> None:
    assert tuple(MODELS) == KINDS
