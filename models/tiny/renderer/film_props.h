// Things in front of the face: glasses, and what passes before it (a hand, a microphone, a ball, a phone).
#pragma once

#include "film_layout.h"
#include "film_light.h"

namespace film {

// Passing things are solids in the camera's axes, in front of everything. Unit: their own size.
struct Thing {
  int kind;  // 0 none, 1 microphone, 2 ball, 3 phone, 4 hand
  float x, y, c, s, size, inverse;
  Cone handle, finger[4], finger_tip[4], thumb, thumb_tip, arm;
  Ellipsoid palm, ball, heel;
  Colour colour;
  explicit Thing(const Params& p) : kind(static_cast<int>(p.occluder + 0.5f)), x(p.occluder_x), y(p.occluder_y), size(p.occluder_size * (p.occluder > 3.5f ? 1.35f : 1.0f)) {
    float angle = p.occluder_angle * kDegree * (kind == 4 ? 0.6f : 1.0f);
    c = __builtin_cosf(angle), s = __builtin_sinf(angle), inverse = 1.0f / (size > 0.01f ? size : 0.01f);
    handle = {0.0f, 0.6f, 0.0f, 0.0f, 6.5f, -1.0f, 0.34f, 0.24f}, ball = {0.0f, 0.0f, 0.0f, 1.0f, 1.0f, 1.0f};
    palm = {0.0f, 0.10f, 0.0f, 0.56f, 0.62f, 0.24f}, heel = {0.0f, 0.50f, -0.02f, 0.46f, 0.40f, 0.26f};
    for (int i = 0; i < 4; ++i) {
      float k = i - 1.5f, tall = 1.0f - 0.10f * face::sq(k - 0.3f);
      finger[i] = {k * 0.27f, -0.30f, 0.02f, k * 0.33f, -0.30f - 0.55f * tall, 0.12f, 0.150f, 0.132f};
      finger_tip[i] = {k * 0.33f, -0.30f - 0.55f * tall, 0.12f, k * 0.355f, -0.30f - 1.02f * tall, 0.02f, 0.132f, 0.108f};
    }
    thumb = {0.38f, 0.40f, 0.05f, 0.74f, 0.02f, 0.16f, 0.19f, 0.155f}, thumb_tip = {0.74f, 0.02f, 0.16f, 0.86f, -0.36f, 0.18f, 0.155f, 0.125f};
    arm = {0.0f, 0.75f, -0.05f, 0.0f, 11.0f, -1.5f, 0.34f, 0.75f};
    colour = {p.occluder_r, p.occluder_g, p.occluder_b};
  }
  Points own_axes(const Points& p) const {
    Pack dx = (p.x - x) * inverse, dy = (p.y - y) * inverse;
    return {dx * c + dy * s, dy * c - dx * s, (p.z - 1.9f) * inverse};
  }
  Pack distance(const Points& p) const {
    Points q = own_axes(p);
    Pack d;
    if (kind == 1) d = blend_min(ball.distance({q.x * 1.3f, q.y * 1.3f, q.z * 1.3f}) * 0.77f, handle.distance(q), 0.05f);
    else if (kind == 2) d = ball.distance(q);
    else if (kind == 3) d = phone(q);
    else d = hand(q);
    return d * (size * 0.95f);
  }
  Pack phone(const Points& q) const {
    Pack ex = absolute(q.x) - 0.62f, ey = absolute(q.y) - 1.12f, ez = absolute(q.z) - 0.05f, nil = splat(0.0f);
    Pack ox = maximum(ex, nil), oy = maximum(ey, nil), oz = maximum(ez, nil);
    return root(ox * ox + oy * oy + oz * oz) + minimum(maximum(ex, maximum(ey, ez)), nil) - 0.08f;
  }
  Pack hand(const Points& q) const {
    Pack d = blend_min(palm.distance(q), heel.distance(q), 0.15f);
    for (int i = 0; i < 4; ++i) d = blend_min(d, minimum(finger[i].distance(q), finger_tip[i].distance(q)), 0.07f);
    d = blend_min(d, minimum(thumb.distance(q), thumb_tip.distance(q)), 0.12f);
    return blend_min(d, arm.distance(q), 0.12f);
  }
  Pack detailed(const Points& p) const { return distance(p); }

  Matter matter(float px, float py, const Colour& skin) const {
    float u = ((px - x) * c + (py - y) * s) * inverse, v = ((py - y) * c - (px - x) * s) * inverse;
    if (kind == 1) {
      bool head = v < 0.62f;
      float mesh = head ? 0.55f + 0.45f * smoothstep(0.1f, 0.4f, fabsf_(u * 9.0f - floor_int(u * 9.0f) - 0.5f) + fabsf_(v * 9.0f - floor_int(v * 9.0f) - 0.5f)) : 1.0f;
      return head ? Matter{Colour{.42f, .43f, .45f} * mesh, 0.7f, 0.0f, 0.5f} : Matter{colour * 0.55f, 0.5f, 0.0f, 0.5f};
    }
    if (kind == 2) return {colour, 0.55f, 0.3f, 0.6f};
    if (kind == 3) return {fabsf_(u) < 0.58f && fabsf_(v) < 1.08f ? colour : colour * 0.5f, 0.6f, 0.0f, 0.7f};
    if (v > 1.35f) return {colour, 0.05f, 0.15f, 0.0f};  // sleeve
    Colour c0 = skin;
    for (int i = 0; i < 4; ++i) {  // nails
      float k = i - 1.5f, tall = 1.0f - 0.10f * sq(k - 0.3f), d = sq((u - k * 0.352f) / 0.062f) + sq((v + 0.28f + 0.98f * tall) / 0.085f);
      c0 = mix(c0, skin * Colour{1.08f, 0.96f, 0.95f} + Colour{.05f, .03f, .03f}, smoothstep(1.2f, 0.8f, d));
    }
    return {c0, 0.25f, 0.9f, 0.1f};
  }
};

// Glasses stand on a plane in front of the face. share: of the frame at this ray; lens: of the glass.
struct Glasses {
  float on, shape, sun;
  Colour colour;
  float z;
  explicit Glasses(const Params& p, const Layout& at) : on(p.glasses), shape(0.5f * (p.glasses_shape + 1.0f)), sun(p.glasses > 1.5f ? 1.0f : 0.0f), colour{p.glasses_r, p.glasses_g, p.glasses_b}, z(at.nose_z - 0.06f) {}

  // Returns the frame's share; t is where the ray meets it, n its normal in head axes, lens the glass's share.
  float at_ray(Vec o, Vec ray, float w, float& t, Vec& n, float& lens) const {
    lens = 0.0f, n = {0, 0, 1}, t = 1e9f;
    if (on < 0.5f || ray.z > -0.42f) return 0.0f;
    t = (z - o.z) / ray.z;
    float x = o.x + t * ray.x, y = o.y + t * ray.y - 0.02f, ax = fabsf_(x);
    t += 0.16f * sq(ax) / -ray.z, x += 0.16f * sq(ax) * ray.x / -ray.z, ax = fabsf_(x);  // frames bend round the face
    float dx = fabsf_(ax - 0.435f) / 0.335f, dy = fabsf_(y + 0.02f * shape) / (0.285f - 0.055f * shape);
    float round = __builtin_sqrtf(sq(dx) + sq(dy)), box = __builtin_sqrtf(__builtin_sqrtf(sq(sq(dx)) + sq(sq(dy))));
    float d = (mix(round, box, shape) - 1.0f) * 0.285f, thick = 0.021f + 0.010f * shape;
    float rim = inside(thick - fabsf_(d), w), bridge = ax < 0.16f ? inside(0.022f - fabsf_(y + 0.075f - 0.8f * sq(x)), w) : 0.0f;
    float hinge = ax > 0.74f ? inside(0.028f - fabsf_(y + 0.06f), w) * inside(0.93f - ax, w) : 0.0f;
    lens = inside(-thick - d + 0.01f, w);
    float share = rim > bridge ? rim : bridge;
    if (hinge > share) share = hinge;
    if (share > 0.0f) n = normal({0.0f, d / thick * 0.5f - 0.25f, 1.0f});
    if (share < 0.05f && fabsf_(ray.x) > 0.05f) {  // side bars
      float side = ray.x < 0.0f ? 1.0f : -1.0f, ts = (side * 0.935f - o.x) / ray.x, ys = o.y + ts * ray.y, zs = o.z + ts * ray.z;
      if (zs > -0.10f && zs < z - 0.12f) {
        float bar = inside(0.026f - fabsf_(ys + 0.04f), w);
        if (bar > share) share = bar, t = ts, n = {side, 0.0f, 0.0f};
      }
    }
    return share;
  }
};

}  // namespace film
