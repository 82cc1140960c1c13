// Neck, shoulders and clothes.
#pragma once

#include "film_layout.h"

namespace film {

struct Body {
  Cone neck, arm;
  Ellipsoid torso, shoulder, collar_bone;
  int kind;  // 0 T-shirt, 1 shirt with collar, 2 hoodie, 3 turtleneck, 4 jacket over shirt
  explicit Body(const Params& p) {
    float w = 1.0f + 0.055f * p.face_width, s = 1.0f + 0.14f * p.shoulders;
    kind = static_cast<int>(p.cloth_kind + 0.5f);
    float thick = 0.455f * w * (1.0f + 0.12f * p.shoulders);
    neck = {0.0f, 0.65f, -0.34f, 0.0f, 2.05f, -0.46f, thick, thick * 1.08f};
    torso = {0.0f, 5.10f, -0.50f, 1.58f * s, 3.20f, 0.80f};
    shoulder = {1.02f * s, 2.66f, -0.52f, 0.68f * s, 0.54f, 0.56f};
    arm = {1.52f * s, 2.75f, -0.55f, 1.78f * s, 6.5f, -0.45f, 0.36f, 0.30f};
    collar_bone = {0.0f, 2.02f, -0.28f, 0.98f, 0.40f, 0.44f};
  }
  Pack distance(const Points& p) const {
    Points side = {absolute(p.x), p.y, p.z};
    Pack d = blend_min(neck.distance(p), torso.distance(p), 0.42f);
    d = blend_min(d, shoulder.distance(side), 0.40f);
    d = blend_min(d, collar_bone.distance(p), 0.30f);
    d = blend_min(d, arm.distance(side), 0.18f);
    return d - garment(side);
  }
  // Thickness of the cloth over the skin, and its collars.
  Pack garment(const Points& side) const {
    Pack edge = neckline(side), h = 0.030f * ramp(0.0f, 0.05f, edge);
    if (kind == 1 || kind == 4) h += 0.055f * ramp(0.00f, 0.03f, edge) * ramp(0.32f, 0.20f, edge) * ramp(0.10f, 0.20f, side.x + 0.10f * (side.y - 1.7f));
    if (kind == 2) h += 0.17f * bell(edge - 0.16f, 0.16f) * ramp(0.05f, 0.35f, side.x);
    if (kind == 3) h += 0.035f * ramp(0.0f, 0.03f, edge) * ramp(0.50f, 0.42f, edge);
    return h;
  }
  // How far inside the cloth a point is, along the body; below 0 is skin.
  template <class T>
  T neckline_of(T ax, T y, T z) const {
    T zero = Lift<T>::of(0.0f), front = ramp(-0.55f, -0.10f, z);
    switch (kind) {
      case 1: return y - (1.72f + 0.42f * front * most(1.0f - ax * 2.6f, zero) + 0.10f * front);
      case 2: return y - (1.82f + 0.12f * front);
      case 3: return y - 1.38f - 0.12f * front;
      case 4: return y - (1.70f + 0.45f * front * most(1.0f - ax * 2.4f, zero) + 0.10f * front);
      default: return y - (1.80f + 0.34f * front * square_root(most(1.0f - ax * ax * 3.4f, zero)));
    }
  }
  Pack neckline(const Points& side) const { return neckline_of<Pack>(side.x, side.y, side.z); }
  Pack relief(const Points& p) const {
    Pack e = neckline({absolute(p.x), p.y, p.z}), h = splat(0.0f);
    Pack folds = noise2(p.x * 2.4f + p.y * 0.8f, p.y * 1.1f - absolute(p.x) * 1.6f, 23);
    h += 0.070f * folds * ramp(0.10f, 0.60f, e);
    if (kind == 3) {
      Pack rib = p.x * 14.0f, f = rib - __builtin_convertvector(floor_pack(rib), Pack) - 0.5f;
      h += 0.012f * bell(f, 0.25f) * ramp(0.52f, 0.40f, e) * ramp(0.0f, 0.02f, e);
    }
    return h;
  }
  Pack detailed(const Points& p) const { return distance(p) - relief(p); }
};

}  // namespace film
