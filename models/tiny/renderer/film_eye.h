// The eye: a wet ball behind the lids' opening, iris and pupil turned to the gaze, lashes in front.
#pragma once

#include "film_skin.h"

namespace film {

class Eyes {
 public:
  Eyes(const Params& p, const Layout& layout) : at(layout), lash(0.5f + 0.5f * p.lash) {
    static const Colour irises[] = {{.20f, .105f, .055f}, {.35f, .21f, .085f}, {.28f, .44f, .22f}, {.22f, .45f, .70f}};
    iris = palette(irises, p.eye_hue) * (1.05f + 0.30f * p.eye_light);
    for (int side = 0; side < 2; ++side) {
      float x = 0.30f * p.gaze_x + (side == 0 ? 0.035f : -0.035f), y = 0.24f * p.gaze_y;  // eyes meet in front
      gaze[side] = normal({x, y, 1.0f});
    }
  }

  // Paints over `colour` (linear, lit) where lids open and lashes stand. o, ray: the view ray in head coordinates;
  // to_camera turns a head direction into the camera's.
  template <class Turn>
  void paint(const Spot& s, Vec ray, const Light& light, const Turn& to_camera, Colour skin_lit, float ao, float shadow, Colour& colour, Class& kind) const {
    float ax = fabsf_(s.x), side = s.x < 0.0f ? -1.0f : 1.0f, u, v;
    at.eye_axes(ax, s.y, u, v);
    if (fabsf_(u) > 1.6f || fabsf_(v) > 0.40f || s.z < 0.15f) return;
    float up = at.lid_up(u < -1.0f ? -1.0f : (u > 1.0f ? 1.0f : u)), low = at.lid_low(u < -1.0f ? -1.0f : (u > 1.0f ? 1.0f : u));
    float fold = at.crease(fabsf_(u) < 1.0f ? u : 0.999f);
    float on_lid = inside((1.04f - fabsf_(u)) * at.eye_w, s.w + 0.03f);
    if (v < up && v > fold - 0.03f) {  // the lid's own skin is a little darker, more so with make-up
      float k = on_lid * smoothstep(fold - 0.02f, fold + 0.03f, v) * (0.20f + 0.35f * lash * lash);
      colour = mix(colour, colour * Colour{0.70f, 0.58f, 0.60f}, k);
    }
    colour = mix(colour, colour * Colour{0.62f, 0.48f, 0.46f}, 0.65f * inside((1.02f - fabsf_(u)) * at.eye_w, 0.05f) * bell(v - fold, 0.013f + 0.5f * s.w));
    float between = (v - up < low - v ? v - up : low - v), span = inside((1.0f - fabsf_(u)) * at.eye_w, s.w + 0.002f);
    float shown = inside(between, s.w) * span;
    // Wet rim on the lower lid.
    float rim = bell(v - low - 0.008f, 0.010f + 0.4f * s.w) * span;
    colour = mix(colour, skin_lit * Colour{1.10f, 0.85f, 0.84f} + Colour{.02f, .015f, .015f}, 0.55f * rim);
    if (shown > 0.0f) {
      colour = mix(colour, ball(s, side, u, v, up, low, ray, light, to_camera, ao, shadow), shown);
      if (shown > 0.5f) kind = side < 0.0f ? kLeftEye : kRightEye;
    }
    lashes(s, u, v, up, low, colour);
  }

 
  // Unit vector of an eye's gaze in head axes; side -1 is the image's left eye.
  Vec look(int side) const { return gaze[side > 0]; }

 private:
  const Layout& at;
  Colour iris;
  float lash;
  Vec gaze[2];

  template <class Turn>
  Colour ball(const Spot& s, float side, float u, float v, float up, float low, Vec ray, const Light& light, const Turn& to_camera, float ao, float shadow) const {
    Vec c = {side * at.eye_x, 0.0f, at.eye_z}, d = Vec{s.x, s.y, s.z} - c;
    float b = dot(d, ray), disc = b * b - dot(d, d) + sq(at.ball), t = -b - __builtin_sqrtf(disc > 0.0f ? disc : 0.0f);
    Vec n = (d + ray * t) * (1.0f / at.ball);
    n = normal(n);
    const Vec g = gaze[side > 0.0f];
    float along = dot(n, g), r = along > 0.0f ? at.ball * __builtin_sqrtf(above(1.0f - along * along)) : 1.0f, k = r / at.iris;
    Colour white = Colour{.90f, .875f, .855f} * (1.0f - 0.10f * sq(u));
    white = blend(white, Colour{.85f, .58f, .54f}, 0.55f * smoothstep(0.60f, 1.02f, -u) + 0.22f * smoothstep(0.70f, 1.0f, u));
    Colour albedo = white;
    float w = s.w / at.iris;
    if (k < 1.0f + 2.0f * w) {
      Vec e = n - g * along;                                   // where on the iris, in head axes
      float angle = fabsf_(e.x) + fabsf_(e.y) > 1e-6f ? e.x / (fabsf_(e.x) + fabsf_(e.y)) + (e.y < 0.0f ? 3.0f : 0.0f) : 0.0f;
      float fibre = w < 0.25f ? noise1(angle * 13.0f, e.y < 0.0f ? 41 : 43) : 0.5f;
      float glow = clamp01(0.5f + 1.6f * (e.y * 0.9f - 0.25f * light.key.x * e.x) / 0.5f);   // light gathers opposite to its source
      Colour inner = iris * (0.66f + 0.45f * fibre * smoothstep(0.35f, 0.6f, k) + 0.55f * glow * smoothstep(1.0f, 0.55f, k));
      inner = mix(inner, iris * Colour{1.15f, 1.0f, 0.80f}, 0.30f * smoothstep(0.62f, 0.45f, k));
      inner = mix(inner, iris * 0.26f, smoothstep(0.74f, 0.98f, k));
      albedo = mix(albedo, inner, smoothstep(1.0f + w + 0.05f, 1.0f - w - 0.05f, k));
      albedo = mix(albedo, Colour{.012f, .010f, .012f}, smoothstep(0.46f + w, 0.40f - w, k));
    }
    float under = smoothstep(0.0f, 0.085f, v - up), over = smoothstep(0.0f, 0.03f, low - v);
    float occlusion = (0.38f + 0.62f * under) * (0.80f + 0.20f * over) * (1.0f - 0.30f * sq(sq(u))) * (0.6f + 0.4f * ao);
    Vec bulge = normal(n + g * (k < 1.1f ? 0.35f : 0.0f)), cn = to_camera(n), cb = to_camera(bulge);
    Matter m = {albedo, 0.0f, 0.35f, 0.0f};
    Colour lit = light.shade(m, normal(cn + Vec{0, 0, 0.8f}), occlusion, 0.45f + 0.55f * shadow * under);
    float spark = light.window(cb, 0.17f) * (0.35f + 0.65f * under), low_spark = smoothstep(0.16f, 0.05f, __builtin_sqrtf(sq(cb.x + 0.55f * light.key.x - 0.02f) + sq(cb.y - 0.30f)));
    return lit + light.key_c * (0.95f * spark) + light.around({0, 1, 0}) * (0.10f * low_spark * (k < 1.0f ? 1.0f : 0.2f)) + light.sky * (0.03f * under);
  }

  void lashes(const Spot& s, float u, float v, float up, float low, Colour& colour) const {
    const Colour ink = {.006f, .004f, .004f};
    float line = (0.010f + 0.012f * lash) * (0.70f + 0.45f * u), ends = inside((1.07f - fabsf_(u)) * at.eye_w, s.w + 0.006f);
    colour = mix(colour, ink, (0.72f + 0.25f * lash) * ends * inside(line - fabsf_(v - up + 0.35f * line), s.w + 0.003f));
    float reach = (0.020f + 0.062f * lash) * smoothstep(-0.75f, 0.75f, u) + 0.008f, h = (up - v) / reach;
    float fan = u - 0.30f * h * (reach / at.eye_w) * (1.0f + 1.6f * u);  // strokes lean outwards
    if (h > -0.2f && h < 1.05f && fan < 1.02f && fan > -0.95f && s.w < 0.04f) {
      float stroke = fan * 9.0f, f = fabsf_(stroke - floor_int(stroke) - 0.5f), width = 0.34f * (1.0f - 0.85f * clamp01(h));
      colour = mix(colour, ink, (0.30f + 0.65f * lash) * smoothstep(width + 0.12f, width - 0.12f, f) * smoothstep(1.05f, 0.75f, h));
    } else if (h > 0.0f && h < 0.6f && fan < 1.02f && fan > -0.2f) {
      colour = mix(colour, ink, 0.35f * lash * (1.0f - h));
    }
    if (u > 0.80f && u < 1.35f && lash > 0.3f) {  // the outer wing
      float wing_v = at.lid_up(0.98f) - (u - 0.95f) * 0.20f, k = (1.35f - u) / 0.55f;
      colour = mix(colour, ink, 0.85f * (lash - 0.3f) * inside(0.014f * k - fabsf_(v - wing_v), s.w + 0.004f) * smoothstep(0.78f, 0.95f, u));
    }
    colour = mix(colour, colour * Colour{0.45f, 0.36f, 0.34f}, (0.35f + 0.35f * lash) * ends * inside(0.007f - fabsf_(v - low - 0.002f), s.w + 0.003f) * smoothstep(-0.9f, 0.4f, u));
  }
};

}  // namespace film
