"""Facts: what each role's model expects beyond its tensors, as small tables of a contract.

A number that is one system's choice rather than the network's (a blur, a border) is the one that the pictures of its
users were made with; its table says whose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "AttributeFacts",
    "AudioFacts",
    "AutoencoderFacts",
    "CropFacts",
    "DarkFacts",
    "DeepFacts",
    "DetectorFacts",
    "EmapFacts",
    "FeatureFacts",
    "LandmarkFacts",
    "LipsyncFacts",
    "MaskFacts",
    "PasteFacts",
    "RestorerFacts",
    "SwapperFacts",
    "YolofaceFacts",
    "YunetFacts",
]

Indices = tuple[int, ...]
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class YolofaceFacts:
    """Rows of yoloface's one output [1, rows, cells], in px of the input: nothing is left to decode but the box.

    From `box_row` on: centre x, centre y, width, height. `score_row`: probability 0..1. From `points_row` on:
    five times x, y, visibility, so `values_per_point` rows a point.
    """

    box_row: int
    score_row: int
    points_row: int
    values_per_point: int


@dataclass(frozen=True)
class YunetFacts:
    """How a YuNet cell with corner c, in strides s, becomes a face; one prior a cell.

    Box: centre = c + s * first two values, size = s * exp(last two). Points: c + s * value. `score` says how the
    class and the object probability make one: their product (facefusion) or its square root (OpenCV).
    """

    score: Literal["product", "root_of_product"]


@dataclass(frozen=True)
class DetectorFacts:
    """How a detector's rows become faces.

    `kind` scrfd: anchor-free distances from cell corners in stride units, `anchors` adjacent rows a cell, cells
    row by row; yoloface and yunet have a table of that name. A row counts from `score_threshold` on; of two faces
    that overlap more than `iou_threshold` the better stays. The picture keeps its aspect, stands at `letterbox`
    in the input, grows to fill it only where `enlarges`, and the rest is `pad_value` (0..255, before mean and
    std). `input_sizes_px` are the sides of square inputs in use, the usual one first.
    """

    kind: Literal["scrfd", "yoloface", "yunet"]
    strides: Indices
    anchors: int
    score_threshold: float
    iou_threshold: float
    pad_value: float
    input_sizes_px: Indices
    letterbox: Literal["top_left", "centred"] = "top_left"
    enlarges: bool = True
    yoloface: YolofaceFacts | None = None
    yunet: YunetFacts | None = None

    def __post_init__(self) -> None:
        for kind, table in (("yoloface", self.yoloface), ("yunet", self.yunet)):
            if (self.kind == kind) != (table is not None):
                wanted, got = ("a table", "none") if self.kind == kind else ("none", "a table")
                raise ValueError(f"{kind}: wanted {wanted} for the kind {self.kind}, got {got}; correct one of them")


@dataclass(frozen=True)
class EmapFacts:
    """How an identity becomes a swapper's latent: unit embedding x emap, made unit length again or not."""

    names: tuple[str, ...]
    size: int
    normalise_latent: bool


@dataclass(frozen=True)
class DarkFacts:
    """Contrast limited equalisation of a crop whose mean L (of Lab, 0..255) is `below_l`: clip limit, tiles a side."""

    below_l: float
    clip: float
    tiles: int


@dataclass(frozen=True)
class LandmarkFacts:
    """How the crop of a landmark network is cut, and how its values become points.

    `points` come out, `values_per_point` each: x, y and `third`; the first `skip` are left out. `crop` box: the
    box's middle in the crop's middle, its longer side `box_side_px` px of the crop; stretched_box: the box, grown
    left, top, right, bottom by the fractions `grow` of its own size, stretched to the crop; points: no picture,
    five points go in. `upright`: the crop is turned by quarters until the face stands. x and y in px of the crop
    are (value + `offset`) * `scale_px`; so is a depth, without the offset. `score`: mean over the points of the
    heatmaps' peaks or of the third value, as a share of `full_score`, at most 1; under `trust_from` facefusion
    takes the points of fan_68_5 instead. `to_68`: the points whose mean is each of the 68 of iBUG, where the
    network has others; `to_5`: those of the 68 whose mean is each of five; `mouth` and `outer_lip`: first and last
    point of them in the network's own numbering.
    """

    points: int
    crop: Literal["box", "stretched_box", "points"]
    scale_px: float
    offset: float = 0.0
    values_per_point: int = 2
    third: Literal["", "score", "depth"] = ""
    skip: int = 0
    box_side_px: float = 0.0
    grow: tuple[float, ...] = ()
    upright: bool = False
    score: Literal["", "heatmap_peak", "third"] = ""
    full_score: float = 1.0
    trust_from: float = 0.0
    dark: DarkFacts | None = None
    to_68: tuple[Indices, ...] = ()
    to_5: tuple[Indices, ...] = ()
    mouth: Indices = ()
    outer_lip: Indices = ()


@dataclass(frozen=True)
class AttributeFacts:
    """What each value of each output means, by our output's name, and how the crop is cut.

    `box_side_px`: px of the crop that the box's longer side takes, its middle in the middle; 0 where the
    contract's template aligns the crop, or where its `uncertain` says that no cut is published.
    """

    labels: dict[str, tuple[str, ...]]
    box_side_px: float = 0.0


@dataclass(frozen=True)
class DeepFacts:
    """A deep swapper (.dfm): the crop is sharpened, and its own two masks make the mask.

    Sharpened crop = `sharpen` * crop + (1 - `sharpen`) * crop blurred by `sharpen_sigma_px`. Mask: the minimum of
    both masks, eroded `erode_times` by an ellipse of `erode_px`, blurred by `mask_sigma_px`; px of the crop.
    """

    sharpen: float
    sharpen_sigma_px: float
    erode_px: int
    erode_times: int
    mask_sigma_px: float


@dataclass(frozen=True)
class SwapperFacts:
    """What a swapper takes as its source, and how its crop is cut.

    `source` embedding: the identity of one of the contract's embedders, through the contract `identity_map` or
    the stored emap where there is one, unit length at the input where `unit_source`; picture: a face aligned to
    `source_template`; none: the identity is in the weights. `mix`: the share of the target's own identity that
    facefusion's weight of 0..1 maps to, from +mix to -mix; that identity is unit length where `unit_target`.
    `border`: what lies outside the frame in a crop. `boost_sizes_px`: sides of interleaved (polyphase) runs.
    `mask_output`: our name of an output that is a mask. `deep`: facts of .dfm files.
    """

    source: Literal["embedding", "picture", "none"]
    border: Literal["black", "replicate"]
    unit_source: bool = True
    identity_map: str = ""
    source_template: str = ""
    mix: float = 0.0
    unit_target: bool = True
    boost_sizes_px: Indices = ()
    mask_output: str = ""
    deep: DeepFacts | None = None


@dataclass(frozen=True)
class PasteFacts:
    """How one system cuts a restorer's crop and puts it back.

    `border` constant: outside the frame lies `border_bgr` (0..255). `mask` box: side * 0.5 * `width` is b, a rim
    of b // 2 px is 0, Gaussian of sigma b / 4; ramp: linear over `width` of the side at each edge; parse: the
    classes `classes` of a face parser, blurred `blur_times` by a kernel of `blur_px` and `sigma_px`, a rim of
    `rim_px` set to 0; unknown: not published. An output of another side is first resized to `result_px` (0: as
    it is). The result is mixed in by `blend`; live, it is made every `every`-th frame.
    """

    template: str
    border: Literal["constant", "replicate", "unknown"]
    mask: Literal["box", "ramp", "parse", "unknown"]
    width: float = 0.0
    border_bgr: tuple[float, ...] = ()
    classes: Indices = ()
    blur_px: int = 0
    sigma_px: float = 0.0
    blur_times: int = 1
    rim_px: int = 0
    result_px: int = 0
    blend: float = 1.0
    every: int = 1


@dataclass(frozen=True)
class RestorerFacts:
    """How the systems that run a restorer paste it, by their name; `like` names the one whose way is ours."""

    like: str
    paste: dict[str, PasteFacts]

    def __post_init__(self) -> None:
        if self.like not in self.paste:
            raise ValueError(f"like: wanted one of {', '.join(self.paste)}, got {self.like!r}; correct the name")


@dataclass(frozen=True)
class MaskFacts:
    """How a network's output becomes a mask of 0..1 in the crop.

    `kind` classes: the class of the highest logit is one of `keep` (numbers of `labels`); face: probability that
    the face is seen; logit: the face is seen where the value is above 0. Values under `zero_below` are 0. Then a
    Gaussian of `sigma_px` in px of the crop, and `remap` (from, to) stretched to 0..1; or a box blur of
    `blur_px`, and a rim of `rim_px` set to 0.
    """

    kind: Literal["classes", "face", "logit"]
    labels: tuple[str, ...] = ()
    keep: Indices = ()
    zero_below: float = 0.0
    sigma_px: float = 0.0
    remap: tuple[float, ...] = ()
    blur_px: int = 0
    rim_px: int = 0


@dataclass(frozen=True)
class FeatureFacts:
    """How sound becomes the rows of an audio input.

    Mono samples at `sample_rate_hz` whose full scale is `peak`; waveform: standardised to mean 0 and variance 1.
    Else frames of `window_samples` every `hop_samples`, transformed over `fft` points to magnitude ** `power`,
    summed in `bins` mel bands from `low_hz` to `high_hz`. Value = `log_scale` * log(x, floored) + `log_offset`,
    log natural for kaldi, base 10 else; the floor is added or a maximum. Then * `scale` + `shift`, clipped to
    +-`clip`, where given. `edges`: snip leaves out frames that pass the ends, centre keeps them. A Kaldi filter
    bank also removes each frame's mean. `variance_floor` is added to a waveform's variance; `below_peak`: before
    `scale` and `shift`, bands weaker by more than this than the loudest of the whole sound are raised to it.
    """

    kind: Literal["waveform", "kaldi_fbank", "log_mel"]
    sample_rate_hz: int
    peak: float
    hop_samples: int
    window_samples: int
    bins: int = 0
    fft: int = 0
    window: Literal["", "povey", "hann"] = ""
    power: int = 2
    preemphasis: float = 0.0
    low_hz: float = 0.0
    high_hz: float = 0.0
    log_scale: float = 1.0
    log_floor: float = 0.0
    floor: Literal["", "added", "maximum"] = ""
    log_offset: float = 0.0
    scale: float = 1.0
    shift: float = 0.0
    clip: float = 0.0
    dither: float = 0.0
    edges: Literal["", "snip", "centre"] = ""
    variance_floor: float = 0.0
    below_peak: float = 0.0


@dataclass(frozen=True)
class AudioFacts:
    """How an audio encoder is called.

    It gives `rate_hz` vectors a second, or blocks of vectors where a call gives one block. `chunk` rows (samples,
    of a waveform) go in at once, the next call begins `step_samples` later; 0: a whole file at once. `pad_front`
    and `pad_behind`: zero samples around a file. `state`: our output -> our input of the next call; `zero_state`:
    its users pass zeros each time. `rows_beyond`: rows that a call takes on top of those of its vectors.
    `first_vector` is the one of a file's first video frame. `tail`: what becomes of the last rows, too few for a
    call: dropped, filled up with rows of zeros, or a shorter call.
    """

    features: FeatureFacts
    rate_hz: float
    chunk: int = 0
    step_samples: int = 0
    pad_front: int = 0
    pad_behind: int = 0
    state: dict[str, str] = field(default_factory=dict)
    zero_state: bool = False
    rows_beyond: int = 0
    first_vector: int = 0
    tail: Literal["drop", "zeros", "short"] = "drop"


@dataclass(frozen=True)
class CropFacts:
    """The rectangle of the frame that a lip-sync network works on: `rule` in words names `numbers` and `points`.

    `landmarks`: whose numbering `points` uses; five_points: a similarity takes the five to the contract's template.
    `from_68`: points of iBUG whose mean stands in for a point of `points`, where no network has that numbering.
    """

    landmarks: Literal["box", "five_points", "ibug_68", "ultralight_110", "mediapipe_478"]
    rule: str
    numbers: dict[str, float] = field(default_factory=dict)
    points: dict[str, Indices] = field(default_factory=dict)
    from_68: dict[str, Indices] = field(default_factory=dict)


@dataclass(frozen=True)
class LipsyncFacts:
    """What drives a generator, and which part of the face it makes.

    `driven_by`: our inputs that carry the speech; `encoders`: contracts that make them, or `features`, where mel
    bands go in directly. One input holds the vectors of `before` frames before a frame's own, and of `after` from
    it on; columns of bands are their own frames. `frame_rate_hz`: of the training video, 0 any. The crop is
    resized to `crop_px` (width, height), the network sees `inner_xywh_px` of it, and `blank_xywh_px` of that is
    black in the masked picture. `stack`: the pictures in an input's channels, in order, by our input's name.
    `paste` hard: overwritten; feather: ramp of `feather_px`; mask: alpha published with the model. `at_end`: a
    window that passes the last vector is filled up with zeros, or slides back to the last one that is whole.
    """

    driven_by: tuple[str, ...]
    crop_px: tuple[int, int]
    stack: dict[str, tuple[str, ...]]
    paste: Literal["hard", "feather", "mask", "unknown"]
    encoders: tuple[str, ...] = ()
    features: FeatureFacts | None = None
    before: int = 0
    after: int = 0
    frame_rate_hz: float = 0.0
    crop: CropFacts | None = None
    inner_xywh_px: Rectangle = (0, 0, 0, 0)
    blank_xywh_px: Rectangle = (0, 0, 0, 0)
    feather_px: int = 0
    at_end: Literal["zeros", "slide"] = "zeros"


@dataclass(frozen=True)
class AutoencoderFacts:
    """A picture's latents are multiplied by `latent_scale` behind the encoder, divided by it before the decoder."""

    latent_scale: float
