// Where features lie on the face and how an expression moves them. Solids, painters and labels all ask here, so that
// a label can't disagree with a picture. Unit: half the width of an average head; see shapes.h for the axes.
#pragma once

#include "film_math.h"
#include "film_params.h"

namespace film {

struct Layout {
  float eye_x, eye_w, eye_h, eye_low, eye_z, ball, iris, fold, tilt_c, tilt_s, openness;
  float brow_y, brow_thick, brow_in, brow_tilt, brow_arch;
  float nose_y, nose_w, nose_z, tip;
  float mouth_y, mouth_w, lift, gap, upper, lower, drop, push, curve, rise, open_round;
  float age, smile;

  explicit Layout(const Params& p) {
    age = clamp01(0.36f + 0.56f * p.age);
    smile = p.smile > 0.0f ? p.smile : 0.0f;
    eye_x = 0.415f + 0.040f * p.eye_spacing;
    eye_w = 0.250f * (1.0f + 0.11f * p.eye_size);
    eye_h = 0.150f * (1.0f + 0.13f * p.eye_size) * (1.0f + 0.20f * p.eye_round) * (1.0f - 0.10f * age) * (1.0f + 0.10f * p.brow_raise - 0.25f * p.squint);
    eye_low = 0.104f * (1.0f + 0.13f * p.eye_size) * (1.0f + 0.12f * p.eye_round) * (1.0f - 0.30f * smile - 0.45f * p.squint);
    eye_z = 0.500f - 0.035f * p.eye_deep;
    ball = 0.270f;
    iris = 0.146f * (1.0f + 0.06f * p.eye_size + 0.10f * p.iris_size);
    fold = 1.24f + 0.18f * p.lid_fold;
    float tilt = 0.17f * p.eye_tilt;
    tilt_c = 1.0f - 0.5f * tilt * tilt, tilt_s = tilt;
    openness = 1.0f - clamp01(p.blink);
    brow_y = -0.345f - 0.045f * p.brow_height - 0.085f * p.brow_raise + 0.035f * p.brow_tense - 0.04f * p.eye_size;
    brow_thick = 0.044f * (1.0f + 0.50f * p.brow_thick);
    brow_in = 0.030f + 0.030f * p.brow_gap - 0.035f * p.brow_tense;
    brow_tilt = 0.075f * p.brow_tilt + 0.075f * p.brow_tense - 0.02f * p.brow_raise;
    brow_arch = 0.055f + 0.040f * p.brow_arch;
    nose_y = 0.46f + 0.070f * p.nose_length;
    nose_w = 0.186f * (1.0f + 0.24f * p.nose_width);
    nose_z = 1.045f + 0.045f * p.nose_length + 0.025f * p.nose_tip;
    tip = 0.124f * (1.0f + 0.20f * p.nose_tip + 0.12f * p.nose_width);
    open_round = clamp01(p.round);
    float shut = clamp01(p.press);
    mouth_y = 0.925f + 0.03f * p.nose_length - 0.012f * p.smile;
    mouth_w = 0.335f * (1.0f + 0.15f * p.lip_width) * (1.0f + 0.15f * p.wide + 0.17f * smile - 0.04f * p.open - 0.50f * open_round);
    lift = 0.105f * p.smile;
    gap = 0.36f * p.open * (1.0f - 0.95f * shut) * (1.0f - 0.5f * clamp01(p.tuck));
    push = 0.075f * open_round - 0.020f * shut;
    float full = 1.0f + 0.40f * p.lip_full, thin = 1.0f - 0.14f * age;
    upper = 0.086f * full * thin * (1.0f - 0.16f * p.lip_balance) * (1.0f + 0.42f * open_round - 0.45f * shut - 0.22f * smile);
    lower = 0.118f * full * thin * (1.0f + 0.12f * p.lip_balance) * (1.0f + 0.36f * open_round - 0.45f * shut - 0.15f * smile - 0.45f * p.tuck);
    drop = 0.21f * p.open;
    curve = 0.30f + 0.62f * open_round, rise = 0.14f + 0.22f * open_round;
  }

  // The eye's own axes: u from inner (-1) to outer corner (1), v down, for a point of the right half (x >= 0).
  template <class T>
  void eye_axes(T x, T y, T& u, T& v) const {
    T dx = x - eye_x;
    u = (dx * tilt_c - y * tilt_s) * (1.0f / eye_w), v = y * tilt_c + dx * tilt_s;
  }
  template <class T>
  T arch(T u, float roundness) const {  // 1 in the middle, 0 at both ends
    T s = most(1.0f - u * u, Lift<T>::of(0.0f));
    return s + (square_root(s) - s) * roundness;
  }
  template <class T>
  T lid_low(T u) const { return eye_low * arch(u, 0.25f) * (1.0f + 0.14f * u); }
  template <class T>
  T lid_up_open(T u) const { return -eye_h * arch(u, 0.42f) * (1.0f - 0.08f * u); }
  template <class T>
  T lid_up(T u) const {
    T low = lid_low(u);
    return low * 0.92f + (lid_up_open(u) - low * 0.92f) * openness;
  }
  // Fold above the upper lid: follows the lid where it is open and stays where it is when it shuts.
  template <class T>
  T crease(T u) const { return -eye_h * fold * arch(u * 0.93f, 0.35f) - 0.012f; }

  // Mouth: u = x / mouth_w. Four curves from the upper lip's upper edge down.
  template <class T>
  T seam(T u) const { return mouth_y + lift * 0.30f - lift * u * u + 0.010f * bell(u, 0.20f) * (1.0f - open_round); }
  template <class T>
  T lip_up_in(T u) const { return seam(u) - rise * gap * arch(u, curve); }
  template <class T>
  T lip_low_in(T u) const { return seam(u) + (1.0f - rise) * gap * arch(u, curve) + 0.002f; }
  template <class T>
  T lip_up_out(T u) const {
    T body = arch(u, 0.30f) * (1.0f - (0.30f - 0.22f * open_round) * bell(u, 0.17f));
    return lip_up_in(u) - upper * 1.15f * body;
  }
  template <class T>
  T lip_low_out(T u) const { return lip_low_in(u) + lower * arch(u, 0.45f + 0.35f * open_round); }

  // Brow: u from inner (-1) to outer end (1).
  float brow_u(float ax) const { return (ax - eye_x - brow_in) * (1.0f / 0.270f); }
  float brow_x(float u) const { return eye_x + brow_in + 0.270f * u; }
  float brow_middle(float u) const { return brow_y - brow_tilt * u + brow_arch * sq(u - 0.20f) + 0.030f * (u > 0.2f ? sq(u - 0.2f) : 0.0f) - 0.03f; }
  float brow_half(float u) const { return brow_thick * (u > -0.3f ? 1.0f - 0.62f * (u + 0.3f) / 1.3f : 1.0f - 0.20f * (-0.3f - u)); }
};

}  // namespace film
