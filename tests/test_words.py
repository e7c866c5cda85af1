import pytest

from longtake.words import an, counted


@pytest.mark.parametrize(
    "said",
    [
        *("a WanPipeline", "an AllegroPipeline", "an LTXPipeline", "a LattePipeline", "an I2VGenXLPipeline"),
        *("a UNet2DConditionModel", "a UMT5EncoderModel", "an SVD", "a StableVideoDiffusionPipeline", "an Output"),
    ],
)
def test_a_name_has_its_article(said: str) -> None:
    assert an(said.split()[1]) == said


def test_one_is_one() -> None:
    assert [counted(number, "tensor") for number in (0, 1, 1200)] == ["0 tensors", "1 tensor", "1,200 tensors"]
