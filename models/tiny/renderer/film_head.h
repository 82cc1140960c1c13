// The head as a signed distance, and the relief that only bends its normals: lids, lips, folds, wrinkles.
#pragma once

#include "film_layout.h"

namespace film {

// A solid that matters only near its own ball: packets far from it skip the arithmetic.
struct Near {
  float x, y, z, r;
  Mask within(const Points& p, const Pack& d, float k) const {
    Pack dx = p.x - x, dy = p.y - y, dz = p.z - z;
    Pack reach = maximum(d, splat(0.0f)) + (r + k);
    return dx * dx + dy * dy + dz * dz < reach * reach;
  }
};

struct Head {
  const Layout& at;
  Ellipsoid skull, cheekbone, jaw, chin, cheek, ridge, socket, lid, muzzle, lip_up, lip_low, tip, ala, nostril, ear, ear_cup, lobe;
  Cone bridge;
  Near nose_near, mouth_near, eye_near, ear_near;
  float lobe_y, beard, ear_c, ear_s, ear_x, wrinkle, fold, philtrum, bag;

  Head(const Params& p, const Layout& layout) : at(layout) {
    float w = 1.0f + 0.055f * p.face_width, j = 1.0f + 0.10f * p.jaw_width, c = 0.07f * p.chin_length + at.drop;
    float full = p.cheek, s = at.smile, old = at.age;
    skull = {0.0f, -0.44f, -0.22f, 0.965f * w, 1.00f, 1.10f};
    cheekbone = {0.0f, 0.13f, 0.01f, 0.865f * w, 0.84f, 0.85f};
    jaw = {0.0f, 0.54f + 0.5f * c, 0.10f, 0.715f * w * j, 0.84f + 0.5f * c, 0.70f};
    chin = {0.0f, 1.215f + c, 0.46f, 0.255f * j, 0.180f, 0.235f};
    cheek = {0.44f, 0.47f - 0.07f * s, 0.475f + 0.03f * s, 0.275f + 0.03f * full, 0.265f, 0.265f + 0.035f * full + 0.03f * s};
    ridge = {0.33f, at.brow_y + 0.04f, 0.665f, 0.31f, 0.085f, 0.150f};
    socket = {at.eye_x, -0.02f, 1.00f, 0.27f, 0.20f, 0.225f + 0.02f * p.eye_deep};
    lid = {at.eye_x, 0.0f, at.eye_z, 0.303f, 0.284f, 0.299f};
    muzzle = {0.0f, at.mouth_y + 0.02f + 0.35f * at.gap, 0.595f + at.push, 0.37f, 0.27f + 0.4f * at.gap, 0.215f};
    float mid = at.seam(0.0f), wide = at.mouth_w;
    lip_up = {0.0f, mid - at.rise * at.gap - 0.45f * at.upper, 0.755f + at.push, wide * 0.80f, at.upper * 0.80f + 0.02f, 0.120f};
    lip_low = {0.0f, mid + (1.0f - at.rise) * at.gap + 0.50f * at.lower, 0.725f + at.push, wide * 0.70f, at.lower * 0.72f + 0.015f, 0.125f};
    float deep = 0.035f * p.nose_bridge;
    bridge = {0.0f, -0.10f, 0.745f + deep, 0.0f, at.nose_y - 0.10f, at.nose_z - 0.12f + deep, 0.058f, at.tip * 0.78f};
    tip = {0.0f, at.nose_y - 0.015f, at.nose_z - 0.105f, at.tip * 1.02f, at.tip * 0.90f, at.tip * 1.05f};
    float wing = 1.0f + 0.20f * p.nose_wing;
    ala = {at.nose_w * 0.67f, at.nose_y + 0.034f, at.nose_z - 0.190f, at.nose_w * 0.41f, 0.080f * wing, 0.110f};
    nostril = {at.nose_w * 0.46f, at.nose_y + 0.112f, at.nose_z - 0.150f, at.nose_w * 0.19f, 0.030f, 0.060f};
    nose_near = {0.0f, at.nose_y - 0.15f, 0.85f, 0.52f};
    mouth_near = {0.0f, at.mouth_y + 0.1f, 0.66f, 0.50f + 0.4f * at.gap};
    eye_near = {at.eye_x, 0.0f, 0.60f, 0.42f};
    float e = 1.0f + 0.22f * p.ear_size, turn = 24.0f * kDegree;
    ear_c = __builtin_cosf(turn), ear_s = __builtin_sinf(turn), ear_x = 0.920f * w;
    ear = {0.060f, 0.0f, -0.02f, 0.058f, 0.270f * e, 0.165f * e};
    ear_cup = {0.125f, -0.015f, 0.02f, 0.075f, 0.200f * e, 0.115f * e};
    lobe_y = 0.215f * e;
    lobe = {0.040f, 0.215f * e, 0.035f, 0.050f, 0.085f * e, 0.075f * e};
    ear_near = {ear_x, 0.14f, -0.16f, 0.40f * e};
    beard = smoothstep(-0.05f, 1.0f, p.beard);
    wrinkle = smoothstep(0.50f, 1.0f, old), fold = 0.25f + 0.55f * old, philtrum = 0.5f * (1.0f + p.philtrum), bag = 0.3f + 0.7f * old;
  }

  Points ear_axes(const Points& side) const {
    Pack x = side.x - ear_x, z = side.z + 0.15f;
    return {x * ear_c + z * ear_s, side.y - 0.13f, z * ear_c - x * ear_s};
  }

  Pack distance(const Points& p) const {
    Points side = {absolute(p.x), p.y, p.z};
    Pack d = blend_min(skull.distance(p), cheekbone.distance(p), 0.30f);
    d = blend_min(d, jaw.distance(p), 0.30f);
    d = blend_min(d, chin.distance(p), 0.42f);
    d = blend_min(d, cheek.distance(side), 0.24f);
    if (any(eye_near.within(side, d, 0.2f))) {
      d = blend_min(d, ridge.distance(side), 0.18f);
      d = blend_max(d, -socket.distance(side), 0.14f);
      d = blend_min(d, lid.distance(side), 0.075f);
    }
    if (any(mouth_near.within(p, d, 0.24f))) {
      d = blend_min(d, muzzle.distance(p), 0.26f);
      d = blend_min(d, blend_min(lip_up.distance(p), lip_low.distance(p), 0.03f), 0.075f);
    }
    if (any(nose_near.within(p, d, 0.1f))) {
      Pack n = blend_min(bridge.distance(p), tip.distance(p), 0.10f);
      n = blend_min(n, ala.distance(side), 0.055f);
      d = blend_min(d, n, 0.085f);
      d = blend_max(d, -nostril.distance(side), 0.035f);
    }
    if (any(ear_near.within(side, d, 0.05f))) {
      Points q = ear_axes(side);
      Pack shell = blend_max(ear.distance(q), -ear_cup.distance(q), 0.045f);
      shell = blend_min(shell, lobe.distance(q), 0.05f);
      d = blend_min(d, shell, 0.05f);
    }
    if (beard > 0.25f) d = with_beard(side, d);
    return d;
  }

  // A full beard stands off the jaw; it grows out of the skin, so that it has no edge.
  Pack with_beard(const Points& side, Pack d) const {
    Pack below = ramp(0.30f, 1.05f, side.y - 0.30f * at.drop) * ramp(0.10f, 0.50f, side.z + 0.25f) * (0.085f * (beard - 0.25f));
    below *= 1.0f - ramp(0.30f, 0.05f, side.x) * ramp(at.mouth_y + at.gap + at.lower + 0.12f, at.mouth_y - 0.02f, side.y);
    return d - below;
  }

  // Height of the relief above the smooth solid, in head units.
  Pack relief(const Points& p) const {
    Pack ax = absolute(p.x), h = splat(0.0f);
    Mask front = p.z > 0.05f;
    if (any(front & (absolute(p.y) < 0.45f) & (ax < 0.85f))) h += eye_relief(ax, p.y);
    if (any(front & (p.y > 0.35f))) h += mouth_relief(p.x, ax, p.y);
    if (wrinkle > 0.01f && any(front & (p.y < at.brow_y))) {
      Pack w = (p.y - at.brow_y + 0.10f + 0.08f * ax * ax) * (1.0f / 0.105f);
      Pack row = w - __builtin_convertvector(floor_pack(w), Pack) - 0.5f;
      Pack band = ramp(-3.4f, -2.4f, w) * ramp(0.1f, -0.7f, w) * ramp(0.55f, 0.25f, ax);
      h -= band * bell(row, 0.16f) * (0.016f * wrinkle);
    }
    return pick(front, h, splat(0.0f));
  }
  Pack eye_relief(Pack ax, Pack y) const {
    Pack u, v, zero = splat(0.0f);
    at.eye_axes(ax, y, u, v);
    Pack span = ramp(1.12f, 0.80f, absolute(u)), up = at.lid_up(u), low = at.lid_low(u), fold_v = at.crease(u);
    Pack h = span * (0.016f * bell(v - up + 0.022f, 0.030f) + 0.014f * bell(v - low - 0.020f, 0.028f));  // rims of the lids
    h -= ramp(1.05f, 0.5f, absolute(u)) * bell(v - fold_v, 0.026f) * 0.020f;                              // fold
    h -= bell((u + 0.15f) * 0.9f, 1.1f) * bell(v - at.eye_low - 0.105f, 0.035f) * (0.014f * bag);          // bag under the eye
    if (wrinkle > 0.01f) {                                                                               // crow's feet
      Pack fan = ramp(1.15f, 1.40f, u) * ramp(2.1f, 1.7f, u), ray = v * 14.0f + (u - 1.2f) * v * 4.0f;
      Pack row = ray - __builtin_convertvector(floor_pack(ray), Pack) - 0.5f;
      h -= fan * bell(row, 0.22f) * ramp(0.24f, 0.12f, absolute(v)) * (0.010f * wrinkle);
    }
    return h + zero;
  }
  Pack mouth_relief(Pack x, Pack ax, Pack y) const {
    Pack u = x * (1.0f / at.mouth_w), inside_u = minimum(maximum(u, splat(-1.0f)), splat(1.0f)), one = splat(1.0f), nil = splat(0.0f);
    Pack up_out = at.lip_up_out(inside_u), up_in = at.lip_up_in(inside_u), low_in = at.lip_low_in(inside_u), low_out = at.lip_low_out(inside_u);
    Pack span = ramp(1.02f, 0.80f, absolute(u));
    Pack t = minimum(maximum((y - up_out) / (up_in - up_out + 1e-3f), nil), one), s = minimum(maximum((y - low_in) / (low_out - low_in + 1e-3f), nil), one);
    Pack h = span * (0.030f * (t * (1.75f - 0.75f * t) * (1.0f - ramp(0.72f, 1.0f, t))) + 0.150f * s * (1.0f - s) * 0.45f);
    h += span * 0.010f * bell(y - up_out + 0.008f, 0.012f);                                    // edge of the upper lip
    h -= bell(ax - at.mouth_w - 0.012f, 0.036f) * bell(y - at.seam(splat(1.0f)), 0.046f) * 0.015f;  // corners
    h -= bell(x, 0.19f) * bell(y - low_out - 0.055f, 0.045f) * 0.030f;                         // hollow above the chin
    h -= bell(x, 0.036f) * ramp(at.nose_y + 0.10f, at.nose_y + 0.16f, y) * ramp(-0.02f, -0.06f, y - up_out) * (0.011f * philtrum + 0.003f);
    // Fold from the wing of the nose to the mouth's corner: deeper with a smile and with age.
    Pack along_fold = minimum(maximum((y - at.nose_y) * (1.0f / (at.mouth_y - at.nose_y + 0.10f)), nil), one);
    Pack line = at.nose_w * 1.12f + (at.mouth_w * 1.12f + 0.03f - at.nose_w * 1.12f) * along_fold * (1.25f - 0.25f * along_fold);
    Pack on = ramp(at.nose_y - 0.02f, at.nose_y + 0.14f, y) * ramp(at.mouth_y + 0.14f, at.mouth_y - 0.04f, y);
    h -= on * bell(ax - line, 0.10f) * (0.002f + 0.024f * fold * at.age + 0.024f * at.smile) * (1.0f - 0.5f * along_fold);
    return h;
  }
  Pack detailed(const Points& p) const { return distance(p) - relief(p); }
};

}  // namespace film
