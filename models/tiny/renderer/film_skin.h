// Skin and what grows on it: blush, freckles, moles, brows, beard, stubble, age.
#pragma once

#include "film_layout.h"
#include "film_light.h"

namespace film {

// Point of the face in head coordinates and the size of a pixel there.
struct Spot {
  float x, y, z, w;
};

static inline Colour skin_tone(float tone, float hue) {
  static const Colour tones[] = {{.335f, .205f, .150f}, {.47f, .305f, .215f}, {.66f, .46f, .34f}, {.83f, .63f, .50f}, {.925f, .755f, .655f}};
  Colour c = palette(tones, tone);
  return c * Colour{1.0f + 0.025f * hue, 1.0f - 0.022f * hue, 1.0f + 0.045f * hue};
}
static inline Colour hair_tone(float light) {
  static const Colour tones[] = {{.085f, .065f, .060f}, {.22f, .14f, .10f}, {.40f, .235f, .135f}, {.66f, .49f, .29f}};
  return palette(tones, light);
}

class Skin {
 public:
  Colour tone, hair;
  Skin(const Params& params, const Layout& layout)
      : tone(skin_tone(params.skin_tone, params.skin_hue)), hair(hair_tone(params.brow_light)), p(params), at(layout), beard(smoothstep(-0.25f, 1.0f, params.beard)),
        moustache(smoothstep(-0.10f, 1.0f, params.moustache)), freckles(smoothstep(-0.2f, 1.0f, params.freckles)), mole(smoothstep(-0.1f, 0.5f, params.mole)),
        blush(0.5f * (params.blush + 1.0f)) {
    float grey = smoothstep(0.55f, 1.0f, at.age) * 0.75f;
    hair = mix(hair, Colour{.62f, .61f, .60f}, grey);
    static const Colour lips[] = {{.50f, .31f, .26f}, {.74f, .40f, .37f}, {.70f, .15f, .18f}};
    Colour own = palette(lips, params.lip_hue);
    lip = mix(own * mix(1.0f, 0.78f, 0.5f * (1.0f - params.skin_tone)), tone * Colour{.98f, .78f, .76f}, params.lip_hue < 0.3f ? 0.42f : 0.10f);
  }

  Matter paint(const Spot& s, Class& kind) const {
    Matter out = {tone, 0.30f, 1.0f, 0.12f};
    kind = kSkin;
    tint(out, out.albedo * Colour{1.03f, 0.90f, 0.86f}, 0.8f * smoothstep(0.86f, 1.02f, fabsf_(s.x)));  // ears
    if (s.z > -0.35f) whiskers(s, out);
    if (s.z < 0.0f) return out;
    blotches(s, out);
    marks(s, out);
    if (s.y < 0.25f) brows(s, out, kind);
    if (s.y > 0.2f) nose(s, out, kind), lips(s, out, kind);
    return out;
  }
  // The share of the mouth's opening at a spot; the opening shows what is behind.
  float opening(const Spot& s) const {
    float u = s.x / at.mouth_w;
    if (fabsf_(u) > 1.0f || s.z < 0.2f || at.gap < 0.004f) return 0.0f;
    float top = s.y - at.lip_up_in(u), low = at.lip_low_in(u) - s.y;
    return inside((top < low ? top : low) - 0.001f, s.w) * smoothstep(0.0f, 0.02f, at.gap);
  }
  Colour lip;

 private:
  const Params& p;
  const Layout& at;
  float beard, moustache, freckles, mole, blush;

  static void tint(Matter& out, Colour c, float k) { out.albedo = mix(out.albedo, c, clamp01(k)); }

  void blotches(const Spot& s, Matter& out) const {
    float ax = fabsf_(s.x), dark = 0.5f * (1.0f - p.skin_tone);
    float cheek = 1.0f - (sq(ax - 0.50f) + sq((s.y - 0.40f + 0.05f * at.smile) * 1.10f)) * (1.0f / sq(0.36f));
    if (cheek > 0.0f) tint(out, out.albedo * Colour{1.02f, 0.66f, 0.64f}, (0.18f + 0.62f * blush) * cheek * cheek * (1.0f - 0.4f * dark));
    float tip = 1.0f - (sq(s.x) + sq(s.y - at.nose_y)) * (1.0f / sq(0.21f));
    if (tip > 0.0f) tint(out, out.albedo * Colour{1.02f, 0.80f, 0.77f}, 0.75f * tip), out.gloss += 0.30f * tip;
    float brow = 1.0f - sq(s.x / 0.55f) - sq((s.y + 0.62f) / 0.30f);
    if (brow > 0.0f) tint(out, out.albedo * Colour{1.02f, 1.01f, 0.94f}, 0.7f * brow), out.gloss += 0.10f * brow;
    float around_eye = 1.0f - sq((ax - at.eye_x) / 0.34f) - sq((s.y - 0.02f) / 0.30f);
    if (around_eye > 0.0f) tint(out, out.albedo * Colour{0.93f, 0.83f, 0.82f}, 0.65f * around_eye);
    float mottle = value_noise(s.x * 7.0f + 3.0f, s.y * 7.0f) - 0.5f;
    out.albedo = out.albedo * Colour{1.0f + 0.018f * mottle, 1.0f - 0.022f * mottle, 1.0f - 0.026f * mottle};
    if (at.age > 0.6f) {
      float spot = value_noise(s.x * 17.0f + 8.0f, s.y * 17.0f + 5.0f);
      tint(out, out.albedo * Colour{0.86f, 0.78f, 0.70f}, 0.8f * (at.age - 0.6f) * smoothstep(0.70f, 0.85f, spot));
    }
  }

  void marks(const Spot& s, Matter& out) const {
    float ax = fabsf_(s.x);
    if (freckles > 0.0f && s.y > 0.02f && s.y < 0.76f && ax < 0.84f) {
      for (int layer = 0; layer < 2; ++layer) {
        const float cell = layer == 0 ? 0.082f : 0.057f;
        int iy = floor_int(s.y / cell);
        float shift = unit(hash2(iy, 5 + layer)) * cell;  // rows out of step, or the grid shows
        int ix = floor_int((s.x + shift) / cell);
        unsigned h = hash2(ix + 40 + 900 * layer, iy + 90);
        float fx = (ix + 0.26f + 0.48f * unit(h)) * cell - shift, fy = (iy + 0.26f + 0.48f * unit(hash2(iy, ix + 7 + layer))) * cell;
        float band = 1.0f - sq((s.y - 0.38f) / 0.36f) - 0.9f * sq(ax / 0.80f), r = (0.007f + 0.011f * unit(h * 5u + 1u)) * (layer == 0 ? 1.0f : 0.7f);
        float gone = __builtin_sqrtf(sq(s.x - fx) + sq((s.y - fy) * 1.15f));
        if (unit(h * 7u + 3u) < 0.75f * band) tint(out, out.albedo * Colour{0.70f, 0.55f, 0.44f}, (0.55f + 0.4f * unit(h * 3u)) * freckles * smoothstep(r + s.w + 0.004f, r - s.w - 0.004f, gone));
      }
    }
    if (mole > 0.0f) {
      float side = p.mole_place < 0.0f ? -1.0f : 1.0f, far = fabsf_(p.mole_place);
      float mx = side * (0.60f - 0.16f * far), my = 0.30f + 0.62f * far;
      tint(out, Colour{.20f, .115f, .085f}, 0.90f * mole * inside(0.034f - __builtin_sqrtf(sq(s.x - mx) + sq(s.y - my)), s.w + 0.004f));
    }
  }

  // Density of the beard 0..1 with soft, strand-like edges; stubble is the same area, thinner.
  float beard_density(const Spot& s, float ax, float strands) const {
    float smile_up = 0.06f * at.smile;
    float cheek_line = at.mouth_y + 0.02f - smile_up - 0.62f * smoothstep(0.40f, 0.84f, ax) + 0.05f * smoothstep(0.42f, 0.10f, ax);
    float d = s.y - cheek_line + 0.09f * (strands - 0.5f), jaw = smoothstep(-0.06f - s.w, 0.10f + s.w, d);
    float below = at.lip_low_out(0.0f) + 0.02f, bare = inside(ax - at.mouth_w * 0.95f, 0.07f) + inside(s.y - below - 0.12f + 0.09f * bell(s.x, 0.07f) + 0.03f * (strands - 0.5f), 0.035f + s.w);
    if (s.y > at.mouth_y - 0.10f) jaw *= clamp01(bare);
    else jaw *= inside(ax - at.mouth_w * 1.12f, 0.06f);
    return jaw;
  }
  void whiskers(const Spot& s, Matter& out) const {
    if (s.y < 0.1f || (beard <= 0.0f && moustache <= 0.0f)) return;
    float ax = fabsf_(s.x);
    float flow = s.x * 30.0f / (1.0f + 0.5f * above(s.y - 1.0f)), strands = s.w < 0.05f ? 0.6f * value_noise(flow, s.y * 6.0f) + 0.4f * value_noise(flow * 2.6f, s.y * 10.0f) : 0.5f;
    float amount = beard > 0.0f ? beard_density(s, ax, strands) * beard * smoothstep(0.92f, 0.82f, ax - 0.3f * above(s.y - 0.55f)) : 0.0f;
    if (moustache > 0.0f) {
      float u = ax / (at.mouth_w * 1.22f + 0.02f), lip_top = at.lip_up_out(clamp01(ax / at.mouth_w)) - 0.004f + 0.17f * sq(sq(u)), low = mix(at.nose_y + 0.130f, at.seam(1.0f) - 0.02f, u * __builtin_sqrtf(u));
      float m = inside(1.0f - u + 0.10f * (strands - 0.5f), 0.14f) * inside(s.y - low + 0.03f * (strands - 0.5f), 0.030f + s.w) * inside(lip_top - s.y + 0.03f * (strands - 0.5f), 0.020f + s.w);
      m *= 0.75f + 0.25f * smoothstep(0.0f, 0.03f, ax);
      if (m * moustache > amount) amount = m * moustache;
    }
    if (amount <= 0.002f) return;
    float stubble = smoothstep(0.0f, 0.40f, amount);
    tint(out, mix(out.albedo, hair, 0.42f) * Colour{.95f, .98f, 1.02f}, 0.75f * stubble);
    float shade = 0.62f + 0.76f * strands;
    tint(out, hair * shade, smoothstep(0.22f, 0.62f, amount + 0.30f * (strands - 0.5f)) * 0.96f);
    float hairy = smoothstep(0.2f, 0.6f, amount);
    out.gloss *= 1.0f - 0.65f * hairy, out.soft *= 1.0f - 0.8f * hairy;
  }

  void brows(const Spot& s, Matter& out, Class& kind) const {
    float ax = fabsf_(s.x), u = at.brow_u(ax);
    if (fabsf_(u) > 1.2f) return;
    float v = s.y - at.brow_middle(u), half = at.brow_half(u);
    float slant = ax * 52.0f + v * (u < -0.5f ? 10.0f : 60.0f), strokes = s.w < 0.04f ? noise1(slant, 31) : 0.5f;
    float d = half - fabsf_(v) + 0.020f * (strokes - 0.5f), ends = (1.0f - fabsf_(u)) * 0.24f + 0.03f * (strokes - 0.5f);
    float body = smoothstep(-0.014f - s.w, 0.018f + s.w, d) * inside(ends, s.w + 0.030f);
    if (body <= 0.0f) return;
    float lit = 0.80f + 0.40f * strokes + 0.15f * clamp01(-v / half);
    tint(out, hair * lit, 0.95f * body);
    out.gloss *= 1.0f - 0.7f * body, out.soft *= 1.0f - 0.8f * body;
    if (body > 0.5f) kind = s.x < 0.0f ? kLeftBrow : kRightBrow;
  }

  void nose(const Spot& s, Matter& out, Class& kind) const {
    float ax = fabsf_(s.x);
    if (s.z < 0.55f || s.y > at.nose_y + 0.16f || ax > at.nose_w * 1.3f) return;
    float dx = (ax - at.nose_w * 0.45f) / (at.nose_w * 0.235f), dy = (s.y - at.nose_y - 0.100f + 0.25f * (ax - at.nose_w * 0.45f)) / 0.030f;
    float d = 1.0f - __builtin_sqrtf(sq(dx) + sq(dy));
    float hole = smoothstep(-0.25f, 0.55f, d);
    tint(out, tone * Colour{0.30f, 0.17f, 0.15f}, 0.85f * hole);
    out.gloss *= 1.0f - hole;
    float wing = __builtin_sqrtf(sq((ax - at.nose_w * 0.70f) / (at.nose_w * 0.44f)) + sq((s.y - at.nose_y - 0.02f) / 0.088f));
    if (ax > at.nose_w * 0.70f) tint(out, out.albedo * Colour{0.82f, 0.68f, 0.65f}, 0.55f * bell(wing - 1.08f, 0.22f));
    float edge = at.nose_w * mix(0.52f, 1.06f, smoothstep(at.nose_y - 0.40f, at.nose_y, s.y));
    if (s.y > 0.02f && s.y < at.nose_y + 0.115f - 0.25f * sq(ax) && ax < edge) kind = kNose;
  }

  void lips(const Spot& s, Matter& out, Class& kind) const {
    float u = s.x / at.mouth_w;
    if (fabsf_(u) > 1.35f || s.y < at.mouth_y - 0.45f || s.z < 0.2f) return;
    float k = fabsf_(u) < 1.0f ? u : (u < 0.0f ? -1.0f : 1.0f), up_out = at.lip_up_out(k), up_in = at.lip_up_in(k), low_in = at.lip_low_in(k), low_out = at.lip_low_out(k);
    float ends = inside((1.0f - fabsf_(u)) * at.mouth_w, s.w + 0.004f), top = s.y - up_out, bottom = low_out - s.y;
    float on = inside(top < bottom ? top : bottom, s.w + 0.007f) * ends, middle = 0.5f * (up_in + low_in);
    bool above_seam = s.y < middle;
    float lines = s.w < 0.03f ? 0.06f * (value_noise(s.x * 60.0f, s.y * 6.0f) - 0.5f) : 0.0f;
    Colour c = lip * ((above_seam ? 0.84f : 1.02f) + lines);
    tint(out, c, 0.94f * on);
    out.gloss = mix(out.gloss, above_seam ? 0.22f : 0.50f, on), out.tight = mix(out.tight, 0.55f, on);
    float shade = bell(s.y - low_out - 0.035f, 0.045f) * inside(0.55f - fabsf_(u), 0.3f);
    tint(out, out.albedo * Colour{0.84f, 0.74f, 0.72f}, 0.75f * shade);
    if (on > 0.5f) kind = above_seam ? kUpperLip : kLowerLip;
    float line = s.y - (above_seam ? up_in : low_in), width = 0.010f * (1.0f - 0.5f * fabsf_(k));
    float seam = inside(width - fabsf_(line), s.w + 0.003f) * inside((1.05f - fabsf_(u)) * at.mouth_w, s.w + 0.01f);
    tint(out, lip * Colour{0.36f, 0.24f, 0.24f}, (at.gap > 0.02f ? 0.35f : 0.88f) * seam);
    float corner = __builtin_sqrtf(sq(fabsf_(s.x) - at.mouth_w - 0.004f) + sq(s.y - at.seam(1.0f)));
    tint(out, out.albedo * Colour{0.52f, 0.36f, 0.34f}, 0.60f * smoothstep(0.040f, 0.005f, corner));
  }
};

}  // namespace film
