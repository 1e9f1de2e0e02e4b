"""DICOM to grey values: modality, VOI, MONOCHROME1 once; each trap by its name."""

import numpy as np
import pytest
from dicom_files import EXACT, RAMP, WINDOW, dataset, lut, refused, shades, written
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from causalcxr.images.decoding import decode

# The chain


def test_full_window_keeps_every_12_bit_level(tmp_path):
    decoded = decode(written(tmp_path / "a.dcm", **WINDOW))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert decoded.bits == 12
    assert decoded.about["window"] == "LINEAR 2048 4096"
    assert (decoded.about["photometric"], decoded.about["notes"]) == ("MONOCHROME2", [])
    assert {"rows", "columns", "transfer_syntax", "format"} < set(decoded.about)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        # PS3.3 C.11.2.1.2.1, centre 2048, width 100: the ends are at 1998 and 2097.
        ("LINEAR", {1997: 0, 1998: 0, 2097: 1, 2098: 1, 2047: 49 / 99}),
        # PS3.3 C.11.2.1.3.2: the ends are at 1998 and 2098.
        ("LINEAR_EXACT", {1998: 0, 2098: 1, 2048: 0.5, 2023: 0.25}),
        ("SIGMOID", {2048: 0.5, 2073: 1 / (1 + np.exp(-1)), 0: 0, 4095: 1}),
    ],
)
def test_voi_lut_function_follows_its_formula(tmp_path, name, values):
    about = {"WindowCenter": 2048, "WindowWidth": 100, "VOILUTFunction": name}
    found = shades(written(tmp_path / "a.dcm", **about))
    for stored, shade in values.items():
        assert found[stored] == pytest.approx(65535 * shade, abs=0.5)


def test_window_applies_to_rescaled_values(tmp_path):
    about = {"RescaleSlope": "2", "RescaleIntercept": "-1000", "WindowCenter": 3095.5}
    found = shades(written(tmp_path / "a.dcm", WindowWidth=8191, **about))
    assert found[0] == 0
    assert found[-1] == 65535
    assert found[2048] == pytest.approx(65535 * 4096 / 8190, abs=1)


def test_modality_lut_precedes_rescale_and_window(tmp_path):
    made = dataset(RescaleSlope="1", RescaleIntercept="9999", WindowCenter=1024, WindowWidth=2048)
    made.ModalityLUTSequence = [lut(np.arange(4096) // 2)]
    found = shades(written(tmp_path / "a.dcm", made))
    assert found[4095] == 65535
    assert found[2048] == pytest.approx(65535 * 1024 / 2047, abs=1)


def test_voi_lut_precedes_the_window(tmp_path):
    made = dataset(**WINDOW)
    made.VOILUTSequence = [lut(np.array([0, 100, 255]), first=2000, bits=8)]
    decoded = decode(written(tmp_path / "a.dcm", made))
    found = decoded.pixels.ravel()
    assert decoded.about["window"] == "VOI LUT"
    assert (found[[0, 2000, 2001, 2002, 4095]] == [0, 0, 25700, 65535, 65535]).all()


def test_monochrome1_is_inverted_once(tmp_path):
    plain = decode(written(tmp_path / "a.dcm", WindowCenter=1000, WindowWidth=500)).pixels
    about = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    made = written(tmp_path / "b.dcm", WindowCenter=1000, WindowWidth=500, **about)
    assert (decode(made).pixels == 65535 - plain).all()


def test_inverse_with_monochrome2_is_ignored_with_a_note(tmp_path):
    decoded = decode(written(tmp_path / "a.dcm", PresentationLUTShape="INVERSE", **WINDOW))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert "contradicts MONOCHROME2" in decoded.about["notes"][0]


def test_without_a_window_deep_values_are_stretched(tmp_path):
    eight = np.arange(10, 240, dtype=np.uint8).reshape(10, 23)
    decoded = decode(written(tmp_path / "8.dcm", pixels=eight))
    assert (decoded.pixels == eight.astype(int) * 257).all()
    deep = decode(written(tmp_path / "12.dcm", pixels=RAMP[8:16]))
    assert (deep.pixels.min(), deep.pixels.max()) == (0, 65535)
    assert deep.about["window"] == "range 512 1023"


def test_padding_does_not_widen_the_range(tmp_path):
    pixels = RAMP[8:16].copy()
    pixels[0, 0] = 4000
    decoded = decode(written(tmp_path / "a.dcm", pixels=pixels, PixelPaddingValue=4000))
    assert decoded.about["window"] == "range 513 1023"
    assert "padding left out of the range" in decoded.about["notes"]


@pytest.mark.parametrize(
    ("about", "note"),
    [
        ({"WindowCenter": 2048, "WindowWidth": 0}, "too narrow"),
        ({"WindowCenter": 2048, "WindowWidth": -5}, "too narrow"),
        ({"WindowCenter": 90000, "WindowWidth": 10}, "outside all values"),
        ({"WindowCenter": 2048}, None),
        ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "slope of 0"),
    ],
)
def test_useless_window_or_slope_is_ignored_with_a_note(tmp_path, about, note):
    decoded = decode(written(tmp_path / "a.dcm", **about))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert decoded.about["window"].startswith("range")
    assert any(note in each for each in decoded.about["notes"]) if note else True


@pytest.mark.parametrize("text", [b"2048,0", b"abcdef", b"NaN   "])
def test_invalid_window_is_ignored_with_a_note(tmp_path, text):
    path = written(tmp_path / "a.dcm", **WINDOW)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"2048.0", text))
    decoded = decode(path)
    assert (decoded.pixels.ravel() == EXACT).all()
    assert any("WindowCenter" in note for note in decoded.about["notes"])


def test_first_of_several_windows_is_used(tmp_path):
    about = {"WindowCenter": [2048, 10], "WindowWidth": [4096, 5]}
    assert (shades(written(tmp_path / "a.dcm", **about)) == EXACT).all()


def test_short_lut_is_damage_and_wrong_depth_is_derived(tmp_path):
    made = dataset()
    made.VOILUTSequence = [lut(np.arange(100))]
    made.VOILUTSequence[0].LUTDescriptor = [4096, 0, 16]
    reason, text = refused(written(tmp_path / "a.dcm", made))
    assert (reason, "has 100 of 4096 entries" in text) == ("damaged", True)
    made.VOILUTSequence = [lut(np.arange(4096), bits=99)]
    decoded = decode(written(tmp_path / "b.dcm", made))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert "depth of the VOI LUT is derived" in decoded.about["notes"][0]


# The sign of what a table begins with, and of padding

SYNTAXES = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian}
STEEP = np.arange(4096) * 16  # a modality LUT up to 65520
# Whether pixels are signed, the modality step, and the first value that the VOI LUT maps.
STEPS = {
    "unsigned": (0, {}, 1000),
    "signed": (1, {}, -1000),
    "unsigned, rescaled below zero": (0, {"RescaleIntercept": "-2048"}, -1000),
    "unsigned, rescaled, steep": (0, {"RescaleSlope": "8", "RescaleIntercept": "7000"}, 33000),
    "signed, rescaled": (1, {"RescaleSlope": "0.5", "RescaleIntercept": "-900"}, -1500),
    "signed, rescaled above zero": (1, {"RescaleIntercept": "36000"}, 35000),
    "unsigned, modality LUT": (0, {"first": 0}, 40000),
    "signed, modality LUT": (1, {"first": -2048}, 40000),
}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("vr", ["US", "SS"])
@pytest.mark.parametrize("name", STEPS)
def test_voi_lut_equals_the_equivalent_window(tmp_path, name, vr, syntax):
    signed, step, first = STEPS[name]
    pixels = RAMP.astype(np.int16) - 2048 if signed else RAMP
    count = 1500  # a ramp of so many values is a window of that width
    centre = first + count / 2
    about = {"PixelRepresentation": signed, **{k: v for k, v in step.items() if k != "first"}}
    made = dataset(pixels, WindowCenter=centre, WindowWidth=count, **about)
    made.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    if "first" in step:
        made.ModalityLUTSequence = [lut(STEEP, first=step["first"], vr=vr)]
    window = decode(written(tmp_path / "window.dcm", made))
    made.VOILUTSequence = [lut(np.rint(np.linspace(0, 65535, count)), first, vr=vr)]
    table = decode(written(tmp_path / "table.dcm", made))
    assert (window.about["window"][:6], table.about["window"]) == ("LINEAR", "VOI LUT")
    assert (np.ptp(window.pixels), np.ptp(table.pixels)) == (65535, 65535)
    # Between two whole numbers a table has no step; a window has.
    off = 44 if step.get("RescaleSlope") == "0.5" else 1
    assert np.abs(window.pixels.astype(int) - table.pixels.astype(int)).max() <= off
    assert table.about["notes"] == []


@pytest.mark.parametrize("window", [True, False])
def test_voi_lut_of_one_grey_is_ignored_with_a_note(tmp_path, window):
    made = dataset(**(WINDOW if window else {}))
    made.VOILUTSequence = [lut(np.linspace(0, 65535, 1000).astype(int), first=30000)]
    decoded = decode(written(tmp_path / "a.dcm", made))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert decoded.about["window"] == ("LINEAR 2048 4096" if window else "range 0 4095")
    note = "a VOI LUT that shows all values as one grey level is ignored"
    assert decoded.about["notes"] == [note]


def test_window_outside_all_values_is_ignored(tmp_path):
    pixels = RAMP[8:16].copy()
    pixels[0, 0] = 4000
    about = {"PixelPaddingValue": 4000, "WindowCenter": 3000, "WindowWidth": 100}
    decoded = decode(written(tmp_path / "a.dcm", pixels=pixels, **about))
    assert decoded.about["window"] == "range 513 1023"
    assert "a window outside all values is ignored" in decoded.about["notes"]


def test_inexact_slope_skips_no_table_entry(tmp_path):
    made = dataset(RescaleSlope="0.29", RescaleIntercept="0")
    made.VOILUTSequence = [lut(np.arange(1188), bits=11)]
    found = shades(written(tmp_path / "a.dcm", made))
    assert found[100] == round(65535 * 29 / 2047)  # 100 * 0.29 is 28.999999999999996 here


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("signed", "vr"), [(1, "US"), (1, "SS"), (0, "US"), (0, "SS")])
def test_padding_of_the_wrong_sign_is_ignored(tmp_path, signed, vr, syntax):
    pixels = RAMP.astype(np.int16)[8:16] if signed else RAMP[8:16] + 39000
    padding = -2048 if signed else 60000
    pixels[0, 0] = padding
    told = padding % 2**16 if vr == "US" else (padding % 2**16 ^ 2**15) - 2**15
    made = dataset(pixels, PixelRepresentation=signed, BitsStored=16, PixelPaddingValue=told)
    made["PixelPaddingValue"].VR = vr
    made.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    decoded = decode(written(tmp_path / "a.dcm", made))
    low, high = pixels.ravel()[1], pixels.max() if signed else pixels.ravel()[-1]
    assert decoded.about["window"] == f"range {low} {high}"
    assert "padding left out of the range" in decoded.about["notes"]


@pytest.mark.parametrize(("value", "limit"), [(3000, 4095), (4095, 3000)])
def test_padding_range_is_ignored(tmp_path, value, limit):
    pixels = RAMP[8:16].copy()
    pixels[0, :5] = [3000, 3500, 4000, 4095, 3001]
    about = {"PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
    decoded = decode(written(tmp_path / "a.dcm", pixels=pixels, **about))
    assert decoded.about["window"] == "range 517 1023"
    assert "padding left out of the range" in decoded.about["notes"]


def test_impossible_padding_excludes_nothing(tmp_path):
    for value, limit in ((0, 4095), (50000, 60000)):
        about = {"PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
        decoded = decode(written(tmp_path / "a.dcm", **about))
        assert (decoded.pixels.ravel() == EXACT).all()
        assert decoded.about["notes"] == []


# Photometric and bit depth


def test_signed_values_are_read_as_signed(tmp_path):
    signed = RAMP.astype(np.int16) - 2048
    about = {"PixelRepresentation": 1, "WindowCenter": 0, "WindowWidth": 4096}
    decoded = decode(written(tmp_path / "a.dcm", pixels=signed, **about))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert decoded.about["notes"] == []
    stripped = (signed & 0x0FFF).astype(np.uint16)  # without the sign in the bits above
    assert (shades(written(tmp_path / "b.dcm", pixels=stripped, **about)) == EXACT).all()


def test_overlays_above_high_bit_are_ignored_with_a_note(tmp_path):
    pixels = RAMP | np.uint16(0xF000)
    decoded = decode(written(tmp_path / "a.dcm", pixels=pixels, **WINDOW))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert decoded.about["notes"] == ["bits above HighBit are ignored"]


def test_high_bit_of_15_shifts_12_bit_values(tmp_path):
    decoded = decode(written(tmp_path / "a.dcm", pixels=RAMP << 4, HighBit=15, **WINDOW))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert decoded.about["notes"] == ["values are in bits 4 to 15"]


def test_missing_high_bit_is_derived_with_a_note(tmp_path):
    decoded = decode(written(tmp_path / "a.dcm", HighBit=None, **WINDOW))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert decoded.about["notes"] == ["HighBit is missing and taken as 11"]


def test_32_bit_values_are_kept(tmp_path):
    pixels = (RAMP.astype(np.uint32) * 1000).reshape(64, 64)
    about = {"BitsStored": 32, "WindowCenter": 2047500.5, "WindowWidth": 4095001}
    decoded = decode(written(tmp_path / "a.dcm", pixels=pixels, **about))
    assert np.abs(decoded.pixels.ravel() - EXACT).max() <= 1
    assert decoded.about["bits"] == 32


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "PALETTE COLOR"])
def test_colour_becomes_luminance_with_a_note(tmp_path, photometric):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = dataset(grey, PhotometricInterpretation=photometric)
    if photometric == "PALETTE COLOR":
        for name in ("Red", "Green", "Blue"):
            setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
            setattr(made, f"{name}PaletteColorLookupTableData", grey.tobytes())
    else:
        neutral = np.full_like(grey, 128)
        colour = [grey] * 3 if photometric == "RGB" else [grey, neutral, neutral]
        made.SamplesPerPixel, made.PlanarConfiguration = 3, 0
        made.PixelData = np.stack(colour, axis=-1).tobytes()
    decoded = decode(written(tmp_path / "a.dcm", made))
    assert np.abs(decoded.pixels.astype(int) - grey.astype(int) * 257).max() <= 1
    assert "luminance" in decoded.about["notes"][0]


@pytest.mark.parametrize(
    "about",
    [
        {"PhotometricInterpretation": None},
        {"PhotometricInterpretation": "MONOCHROME7"},
        {"PhotometricInterpretation": "RGB"},
        {"SamplesPerPixel": 3, "PixelData": bytes(64 * 64 * 6)},
    ],
)
def test_photometric_interpretation_is_not_guessed(tmp_path, about):
    assert refused(written(tmp_path / "a.dcm", **about))[0] == "photometric"


def test_constant_dicom_image_is_allowed(tmp_path):
    path = written(tmp_path / "a.dcm", pixels=np.full((8, 8), 700, np.uint16))
    assert (decode(path).pixels == 0).all()
    assert (
        decode(written(tmp_path / "b.dcm", pixels=np.zeros((8, 8), np.uint8))).pixels == 0
    ).all()
