// What is drawn on the face: eyes, brows, lips, beard and so on, as smooth-edged functions of the hit point.
#pragma once

#include "shapes.h"

namespace face {

struct Colour {
  float r, g, b;
};
static inline Colour operator*(Colour c, float k) { return {c.r * k, c.g * k, c.b * k}; }
static inline Colour operator*(Colour a, Colour b) { return {a.r * b.r, a.g * b.g, a.b * b.b}; }
static inline Colour operator+(Colour a, Colour b) { return {a.r + b.r, a.g + b.g, a.b + b.b}; }
static inline float mix(float a, float b, float k) { return a + (b - a) * k; }
static inline Colour mix(Colour a, Colour b, float k) { return {mix(a.r, b.r, k), mix(a.g, b.g, k), mix(a.b, b.b, k)}; }
static inline float clamp01(float x) { return x < 0.0f ? 0.0f : (x > 1.0f ? 1.0f : x); }
static inline float smoothstep(float a, float b, float x) {
  float k = clamp01((x - a) / (b - a));
  return k * k * (3.0f - 2.0f * k);
}
static inline float sq(float x) { return x * x; }
static inline float fabsf_(float x) { return x < 0.0f ? -x : x; }
// 1 inside (distance > 0), 0 outside, soft over one pixel footprint w.
static inline float inside(float distance, float w) { return smoothstep(-w, w, distance); }

template <int N>
static inline Colour palette(const Colour (&stops)[N], float at) {  // at in [-1, 1]
  float x = clamp01((at + 1.0f) * 0.5f) * (N - 1);
  int i = static_cast<int>(x);
  if (i > N - 2) i = N - 2;
  return mix(stops[i], stops[i + 1], x - i);
}

static inline Colour skin_colour(float tone, float hue) {
  static const Colour tones[] = {{.34f, .205f, .145f}, {.50f, .325f, .225f}, {.69f, .475f, .345f}, {.86f, .66f, .525f}, {.965f, .82f, .72f}};
  Colour c = palette(tones, tone);
  return c * Colour{1.0f + 0.035f * hue, 1.0f - 0.045f * hue, 1.0f + 0.085f * hue};
}
static inline Colour brow_colour(float light) {
  static const Colour tones[] = {{.07f, .05f, .05f}, {.21f, .13f, .09f}, {.42f, .24f, .13f}, {.70f, .52f, .31f}};
  return palette(tones, light);
}

static inline unsigned hash2(int x, int y) {
  unsigned h = static_cast<unsigned>(x) * 0x9E3779B1u ^ static_cast<unsigned>(y) * 0x85EBCA77u;
  h ^= h >> 15;
  h *= 0x2C1B3C6Du;
  h ^= h >> 12;
  h *= 0x297A2D39u;
  return h ^ (h >> 15);
}
static inline float unit(unsigned h) { return static_cast<float>(h & 0xFFFFFFu) * (1.0f / 16777216.0f); }
static inline int floor_int(float x) {
  int i = static_cast<int>(x);
  return i - (x < static_cast<float>(i));
}
static inline float value_noise(float x, float y) {
  int ix = floor_int(x), iy = floor_int(y);
  float fx = x - ix, fy = y - iy;
  fx = fx * fx * (3 - 2 * fx), fy = fy * fy * (3 - 2 * fy);
  return mix(mix(unit(hash2(ix, iy)), unit(hash2(ix + 1, iy)), fx), mix(unit(hash2(ix, iy + 1)), unit(hash2(ix + 1, iy + 1)), fx), fy);
}

struct Surface {
  Colour albedo;  // display-referred, squared later for lighting
  float gloss;    // strength of the highlight
  float glow;     // light of its own: catch light in the eye
};

// Point of the face in head coordinates and the size of a pixel there.
struct Spot {
  float x, y, z, w;
};

class Painter {
 public:
  Painter(const Params& params, const Layout& layout)
      : p(params), at(layout), skin(skin_colour(p.skin_tone, p.skin_hue)), hair(brow_colour(p.brow_light)),
        tilt(0.20f * p.eye_tilt), beard(smoothstep(-0.25f, 1.0f, p.beard)), moustache(smoothstep(-0.10f, 1.0f, p.moustache)),
        freckles(smoothstep(-0.2f, 1.0f, p.freckles)), mole(smoothstep(-0.1f, 0.5f, p.mole)), blush(0.5f * (p.blush + 1.0f)) {
    static const Colour irises[] = {{.20f, .11f, .06f}, {.45f, .28f, .10f}, {.30f, .45f, .22f}, {.22f, .46f, .72f}};
    iris = palette(irises, p.eye_hue) * (1.0f + 0.30f * p.eye_light);
    static const Colour lips[] = {{.52f, .33f, .27f}, {.76f, .42f, .39f}, {.72f, .14f, .17f}};
    Colour own = palette(lips, p.lip_hue);
    lip = mix(own * mix(1.0f, 0.85f, 0.5f * (1.0f - p.skin_tone)), skin, 0.28f);
  }

  Surface paint(const Spot& s) const {
    Surface out = {skin, 0.10f, 0.0f};
    if (s.z < 0.05f) return out;
    skin_marks(s, out);
    whiskers(s, out);
    if (s.y < 0.30f) brows(s, out);
    if (fabsf_(s.y) < 0.40f) eye(s, out);
    if (s.y > 0.25f) nostrils(s, out), mouth(s, out);
    return out;
  }

 private:
  const Params& p;
  const Layout& at;
  Colour skin, hair, iris, lip;
  float tilt, beard, moustache, freckles, mole, blush;

  void tint(Surface& out, Colour c, float k) const { out.albedo = mix(out.albedo, c, clamp01(k)); }

  void skin_marks(const Spot& s, Surface& out) const {
    float ax = fabsf_(s.x);
    float cheek = 1.0f - (sq(ax - 0.50f) + sq((s.y - 0.42f) * 1.15f)) * (1.0f / sq(0.33f));
    if (cheek > 0.0f) tint(out, out.albedo * Colour{1.02f, 0.62f, 0.60f}, 0.75f * blush * cheek * cheek);
    float nose_tip = 1.0f - (sq(s.x) + sq(s.y - at.nose_y)) * (1.0f / sq(0.2f));
    if (nose_tip > 0.0f) tint(out, out.albedo * Colour{1.0f, 0.84f, 0.82f}, 0.7f * nose_tip);
    float under = 1.0f - sq((ax - at.eye_x) / 0.24f) - sq((s.y - at.eye_h - 0.06f) / 0.07f);
    if (under > 0.0f) tint(out, out.albedo * Colour{0.90f, 0.82f, 0.84f}, 0.5f * under);
    if (freckles > 0.0f && s.y > 0.08f && s.y < 0.72f && ax < 0.78f) {
      const float cell = 0.105f;
      int iy = floor_int(s.y / cell);
      float shift = unit(hash2(iy, 5)) * cell;  // rows out of step, or the grid shows
      int ix = floor_int((s.x + shift) / cell);
      unsigned h = hash2(ix + 40, iy + 90);
      float fx = (ix + 0.22f + 0.56f * unit(h)) * cell - shift, fy = (iy + 0.22f + 0.56f * unit(hash2(iy, ix + 7))) * cell;
      float band = 1.0f - sq((s.y - 0.40f) / 0.34f);
      float r = 0.010f + 0.013f * unit(h * 5u + 1u);
      if (unit(h * 7u + 3u) < 0.85f * band)
        tint(out, out.albedo * Colour{0.60f, 0.44f, 0.34f}, 0.95f * freckles * inside(r - __builtin_sqrtf(sq(s.x - fx) + sq(s.y - fy)), s.w));
    }
    if (mole > 0.0f) {
      float side = p.mole_place < 0.0f ? -1.0f : 1.0f, far = fabsf_(p.mole_place);
      float mx = side * (0.60f - 0.16f * far), my = 0.30f + 0.62f * far;
      tint(out, Colour{.16f, .085f, .06f}, 0.92f * mole * inside(0.042f - __builtin_sqrtf(sq(s.x - mx) + sq(s.y - my)), s.w));
    }
  }

  void whiskers(const Spot& s, Surface& out) const {
    if (s.y < 0.2f || (beard <= 0.0f && moustache <= 0.0f)) return;
    float ax = fabsf_(s.x), top = at.mouth_y + 0.10f - 0.58f * smoothstep(0.34f, 0.86f, ax) - 0.08f * smoothstep(0.10f, 0.0f, ax);
    float grain = s.w < 0.03f ? 0.75f + 0.5f * value_noise(s.x * 46.0f, s.y * 34.0f) : 1.0f;
    float edge = 0.07f + s.w;
    float jaw = smoothstep(-edge, edge, s.y - top) * beard;
    float lip_top = at.mouth_y - at.upper - at.lift * sq(ax / at.mouth_w) * 0.8f;
    float low = at.nose_y + 0.125f;
    float reach = at.mouth_w * 1.16f, droop = 0.11f * sq(ax / reach);
    float lip_hair = inside(reach - ax, 0.05f + s.w) * inside(s.y - low - droop * 0.8f, 0.025f + s.w) * inside(lip_top + 0.05f + droop * 2.2f - s.y, 0.03f + s.w);
    float amount = jaw * 0.90f;
    if (lip_hair * moustache > amount) amount = lip_hair * moustache;
    float under = inside(ax - at.mouth_w * 0.75f, 0.05f) + inside(s.y - at.mouth_y - at.gap - at.lower - 0.02f, 0.03f);
    if (s.y > at.mouth_y - 0.02f) amount *= clamp01(under);
    tint(out, hair * 0.92f, 0.93f * amount * grain);
    out.gloss *= 1.0f - 0.8f * clamp01(amount);
  }

  void brows(const Spot& s, Surface& out) const {
    float ax = fabsf_(s.x), u = (ax - at.eye_x - 0.025f) * (1.0f / 0.265f);
    if (fabsf_(u) > 1.25f) return;
    float middle = at.brow_y - 0.085f * p.brow_tilt * u + (0.055f + 0.045f * p.brow_arch) * sq(u - 0.15f) - 0.03f;
    float thick = 0.046f * (1.0f + 0.52f * p.brow_thick) * (u > 0 ? 1.0f - 0.55f * u : 1.0f + 0.10f * u);
    float strokes = s.w < 0.03f ? 0.012f * (value_noise(ax * 60.0f + s.y * 30.0f, s.y * 14.0f) - 0.5f) : 0.0f;
    float body = inside(thick + strokes - fabsf_(s.y - middle), s.w + 0.010f) * inside((1.0f - fabsf_(u)) * 0.25f, s.w + 0.02f);
    tint(out, hair, 0.94f * body);
    out.gloss *= 1.0f - body;
  }

  void eye(const Spot& s, Surface& out) const {
    float side = s.x < 0.0f ? -1.0f : 1.0f, dx = fabsf_(s.x) - at.eye_x;
    if (fabsf_(dx) > 0.36f || s.z < 0.40f) return;
    float a = dx * 0.985f - s.y * tilt, v = s.y * 0.985f + dx * tilt, u = a / at.eye_w;  // outer corner up when tilt > 0
    float shape = 1.0f - sq(u), low = 0.58f * at.eye_h * shape, openness = 1.0f - p.blink;
    float up = mix(low, -at.eye_h * shape * (1.12f - 0.10f * u), openness);
    float within = inside((1.0f - fabsf_(u)) * at.eye_w, s.w);
    float crease = -at.eye_h * 1.52f * shape - 0.012f;
    tint(out, out.albedo * Colour{0.66f, 0.58f, 0.58f}, 0.55f * within * inside(0.011f - fabsf_(v - crease), s.w + 0.012f));
    if (v > crease && v < up) tint(out, out.albedo * Colour{0.86f, 0.78f, 0.78f}, (0.45f + 0.35f * (0.5f + 0.5f * p.lash)) * within);
    float shown = inside(v - up < low - v ? v - up : low - v, s.w) * within;
    if (shown > 0.0f) {
      Colour ball = Colour{.93f, .915f, .905f} * (1.0f - 0.16f * sq(u));
      float ix = dx * side - 0.085f * p.gaze_x, iy = s.y - 0.005f - 0.045f * p.gaze_y, r = __builtin_sqrtf(sq(ix) + sq(iy));
      Colour ring = iris * (r < 0.72f * at.iris ? 1.15f + 0.5f * clamp01(iy / at.iris) : 0.55f);
      ball = mix(ball, ring, inside(at.iris - r, s.w));
      ball = mix(ball, Colour{.02f, .018f, .02f}, inside(at.iris * 0.46f - r, s.w));
      ball = ball * (1.0f - 0.42f * smoothstep(0.055f, 0.0f, v - up));
      float spark = inside(at.iris * 0.27f - __builtin_sqrtf(sq(ix + at.iris * 0.34f) + sq(iy + at.iris * 0.36f)), s.w);
      tint(out, ball, shown);
      out.gloss = mix(out.gloss, 0.05f, shown);
      out.glow = 0.95f * spark * shown;
    }
    float line = 0.014f + 0.011f * (p.lash + 1.0f), wing = inside((1.10f - fabsf_(u)) * at.eye_w, s.w);
    tint(out, Colour{.075f, .05f, .05f}, (0.80f + 0.15f * p.lash) * wing * inside(line * (1.0f + 0.5f * u) - fabsf_(v - up + line * 0.4f), s.w));
    tint(out, out.albedo * 0.62f, 0.5f * within * inside(0.010f - fabsf_(v - low), s.w + 0.004f));
  }

  void nostrils(const Spot& s, Surface& out) const {
    float ax = fabsf_(s.x), dx = (ax - at.nose_w * 0.42f) / (at.nose_w * 0.27f), dy = (s.y - at.nose_y - 0.078f) / 0.024f;
    float d = 1.0f - __builtin_sqrtf(sq(dx) + sq(dy));
    tint(out, skin * Colour{0.30f, 0.20f, 0.19f}, 0.85f * inside(d * 0.03f, s.w * 0.7f + 0.004f));
    float wing = __builtin_sqrtf(sq((ax - at.nose_w * 0.80f) / (at.nose_w * 0.42f)) + sq((s.y - at.nose_y - 0.03f) / 0.085f));
    if (ax > at.nose_w * 0.8f) tint(out, out.albedo * Colour{0.80f, 0.70f, 0.68f}, 0.5f * inside(0.016f - 0.07f * fabsf_(wing - 1.0f), s.w + 0.010f));
  }

  void mouth(const Spot& s, Surface& out) const {
    float u = s.x / at.mouth_w;
    if (fabsf_(u) > 1.3f || s.y < at.mouth_y - 0.4f) return;
    float shape = 1.0f - sq(u), centre = at.mouth_y - at.lift * sq(u) + 0.25f * at.lift;
    float bow = 1.0f - 0.24f * clamp01(1.0f - sq(u / 0.26f));
    float up_in = centre - 0.06f * at.gap * shape, low_in = centre + at.gap * shape;
    float up_out = up_in - at.upper * bow * shape, low_out = low_in + at.lower * shape * (1.15f - 0.15f * shape);
    float ends = inside((1.0f - fabsf_(u)) * at.mouth_w, s.w);
    float top = s.y - up_out, bottom = low_out - s.y;
    float lips = inside(top < bottom ? top : bottom, s.w + 0.006f) * ends;
    float fold = inside(0.07f - fabsf_(s.y - low_out - 0.075f), 0.06f) * inside(0.5f - fabsf_(u), 0.3f);
    tint(out, out.albedo * Colour{0.84f, 0.76f, 0.75f}, 0.6f * fold);
    Colour shade = lip * (s.y < centre ? 0.86f : 1.03f);
    tint(out, shade, 0.95f * lips);
    out.gloss = mix(out.gloss, s.y > low_in ? 0.30f : 0.10f, lips);
    float d_top = s.y - up_in, d_low = low_in - s.y, hole = inside(d_top < d_low ? d_top : d_low, s.w) * ends;
    if (at.gap > 0.004f && hole > 0.0f) {
      Colour cavity = {.20f, .055f, .06f};
      float tongue = inside(1.0f - sq(u / 0.62f) - sq((s.y - low_in - 0.02f) / (0.55f * at.gap + 0.01f)), 0.25f);
      cavity = mix(cavity, Colour{.66f, .30f, .29f}, 0.85f * tongue);
      float teeth = inside(0.30f * at.gap + 0.028f - (s.y - up_in), s.w) * inside((0.80f - fabsf_(u)) * at.mouth_w, s.w + 0.02f);
      float gaps = s.w < 0.02f ? 0.10f * inside(0.006f - fabsf_(wrap(s.x, 0.098f)), s.w) : 0.0f;
      cavity = mix(cavity, Colour{.93f, .91f, .87f} * (1.0f - gaps), teeth);
      tint(out, cavity * (0.72f + 0.28f * clamp01(d_top / 0.05f)), hole);
      out.gloss = mix(out.gloss, 0.03f, hole);
    }
    float seam = inside(0.009f - fabsf_(s.y - (s.y < 0.5f * (up_in + low_in) ? up_in : low_in)), s.w) * inside((1.06f - fabsf_(u)) * at.mouth_w, s.w);
    tint(out, lip * Colour{0.34f, 0.26f, 0.26f}, (at.gap > 0.02f ? 0.45f : 0.85f) * seam);
    float corner = __builtin_sqrtf(sq(fabsf_(s.x) - at.mouth_w) + sq(s.y - (at.mouth_y - 0.75f * at.lift)));
    tint(out, out.albedo * Colour{0.55f, 0.42f, 0.42f}, 0.7f * inside(0.022f - corner, s.w + 0.012f));
  }

  static float wrap(float x, float period) { return x - period * (floor_int(x / period) + 0.5f); }
};

}  // namespace face
