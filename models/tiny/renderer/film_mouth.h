// What an open mouth shows: two rows of teeth on their arch, gums, a tongue that moves, darkness behind.
#pragma once

#include "film_skin.h"

namespace film {

class Mouth {
 public:
  Mouth(const Params& p, const Layout& layout) : at(layout), tongue(clamp01(p.tongue)), smile(p.smile) {}

  // Lit colour seen through the opening by a ray (head coordinates) that enters at s.
  template <class Turn>
  Colour look(const Spot& s, Vec ray, const Light& light, const Turn& to_camera, float shadow) const {
    const float top_lip = at.lip_up_in(s.x / at.mouth_w), low_lip = at.lip_low_in(s.x / at.mouth_w);
    const float upper_edge = at.mouth_y - 0.035f - 0.05f * at.gap - 0.02f * smile + 0.085f - 0.085f * at.open_round, lower_edge = at.mouth_y + 0.055f + 0.80f * at.gap + 0.02f;
    Colour out = linear(Colour{.20f, .045f, .050f});
    // Tongue: an ellipsoid on the mouth's floor; lifted to the teeth for l, n, t, d.
    Vec c = {0.0f, lower_edge + 0.015f - tongue * (0.45f * at.gap + 0.04f), 0.47f + 0.10f * tongue}, radii = {0.235f, 0.075f + 0.16f * at.gap + 0.02f * tongue, 0.26f}, hit, n;
    float best = 1e9f, t;
    if (ellipsoid(s, ray, c, radii, t, hit, n)) {
      best = t;
      float groove = 1.0f - 0.30f * bell(hit.x, 0.022f);
      Matter m = {Colour{.72f, .33f, .32f} * groove, 0.45f, 0.7f, 0.45f};
      out = light.shade(m, to_camera(n), 0.55f, 0.35f + 0.5f * shadow);
    }
    // Teeth: an upright elliptical cylinder; the upper row hides the tongue behind it, the lower one its root.
    for (int row = 0; row < 2; ++row) {
      float wide = row == 0 ? 0.325f : 0.295f, deep = row == 0 ? 0.22f : 0.185f, front = 0.465f;
      float ox = s.x, oz = s.z - front, a = sq(ray.x / wide) + sq(ray.z / deep), b = ox * ray.x / sq(wide) + oz * ray.z / sq(deep), q = sq(ox / wide) + sq(oz / deep) - 1.0f;
      float disc = b * b - a * q;
      if (disc < 0.0f) continue;
      t = (-b - __builtin_sqrtf(disc)) / a;
      if (t > best || t < -0.3f) continue;
      Vec h = Vec{s.x, s.y, s.z} + ray * t;
      const float in_sight = smoothstep(front - 0.17f, front - 0.02f, h.z);  // back teeth fade into the dark
      if (in_sight <= 0.0f) continue;
      float place = h.x / (wide * 0.30f), each = place + (place > 0 ? 0.06f : -0.06f) * sq(place);  // teeth get narrower to the side
      float f = each - floor_int(each) - 0.5f, gap = smoothstep(0.40f, 0.50f, fabsf_(f)), w = s.w;
      float round = 0.014f * sq(sq(f * 2.0f)) + 0.004f * (floor_int(each) & 1);
      float inside_row = row == 0 ? upper_edge - round - h.y : h.y - lower_edge - 0.6f * round;
      float share = inside(inside_row, w + 0.003f) * in_sight;
      if (share <= 0.0f) continue;
      float gum_line = row == 0 ? h.y - (upper_edge - 0.150f) - 0.020f * sq(f * 2.0f) : (lower_edge + 0.115f) - h.y;
      Colour ivory = Colour{.93f, .905f, .855f} * (1.0f - 0.16f * gap * smoothstep(0.02f, 0.008f, w)) * (1.0f - 0.35f * smoothstep(0.10f, 0.26f, fabsf_(h.x)));
      Matter m = {mix(Colour{.78f, .42f, .41f}, ivory, inside(gum_line, w + 0.006f)), 0.35f, 0.25f, 0.8f};
      Vec tn = normal({h.x / sq(wide) + 0.8f * f * (1.0f - gap), (row == 0 ? 0.8f : -0.6f), (h.z - front) / sq(deep)});
      Colour lit = light.shade(m, to_camera(tn), row == 0 ? 0.85f : 0.62f, 0.5f + 0.5f * shadow);
      float from_lip = row == 0 ? h.y - top_lip : low_lip - h.y;
      lit = lit * (0.58f + 0.42f * smoothstep(-0.02f, 0.07f, from_lip));
      out = mix(out, lit, share);
      if (share > 0.9f) best = t;
    }
    float rim = smoothstep(0.0f, 0.05f, s.y - top_lip);
    return out * (0.55f + 0.45f * rim);
  }

 private:
  const Layout& at;
  float tongue, smile;

  static bool ellipsoid(const Spot& s, Vec ray, Vec c, Vec r, float& t, Vec& hit, Vec& n) {
    Vec o = {(s.x - c.x) / r.x, (s.y - c.y) / r.y, (s.z - c.z) / r.z}, d = {ray.x / r.x, ray.y / r.y, ray.z / r.z};
    float a = dot(d, d), b = dot(o, d), q = dot(o, o) - 1.0f, disc = b * b - a * q;
    if (disc < 0.0f) return false;
    t = (-b - __builtin_sqrtf(disc)) / a;
    Vec e = o + d * t;
    hit = {s.x + ray.x * t, s.y + ray.y * t, s.z + ray.z * t};
    n = normal({e.x / r.x, e.y / r.y, e.z / r.z});
    return true;
  }
};

}  // namespace film
