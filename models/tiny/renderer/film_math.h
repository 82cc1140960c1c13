// Small functions that serve one number (painting) and sixteen (solids) alike.
#pragma once

#include "packet.h"
#include "paint.h"

namespace film {

using face::absolute;
using face::any;
using face::blend_max;
using face::blend_min;
using face::clamp01;
using face::Colour;
using face::Cone;
using face::Ellipsoid;
using face::fabsf_;
using face::floor_int;
using face::hash2;
using face::inside;
using face::kLanes;
using face::Mask;
using face::maximum;
using face::minimum;
using face::mix;
using face::Pack;
using face::palette;
using face::pick;
using face::Points;
using face::root;
using face::smoothstep;
using face::splat;
using face::sq;
using face::unit;
using face::value_noise;

constexpr float kDegree = 0.017453293f;

template <class T>
struct Lift {
  static T of(float v) { return v; }
};
template <>
struct Lift<Pack> {
  static Pack of(float v) { return splat(v); }
};
template <class T>
static inline T least(T a, T b) { return a < b ? a : b; }
template <class T>
static inline T most(T a, T b) { return a > b ? a : b; }
template <class T>
static inline T size_of(T a) { return most(a, -a); }
template <class T>
static inline T squared(T a) { return a * a; }
static inline float square_root(float a) { return __builtin_sqrtf(a); }
static inline Pack square_root(Pack a) { return root(a); }
template <class T>
static inline T ramp(float a, float b, T x) {  // smoothstep
  T k = (x - a) * (1.0f / (b - a));
  k = least(most(k, Lift<T>::of(0.0f)), Lift<T>::of(1.0f));
  return k * k * (3.0f - 2.0f * k);
}
// A bell of height 1 and half width w: 1 / (1 + (x/w)^2)^2.
template <class T>
static inline T bell(T x, float w) { return 1.0f / squared(1.0f + squared(x * (1.0f / w))); }

static inline Mask floor_pack(Pack x) {
  Mask i = __builtin_convertvector(x, Mask);
  return i + (x < __builtin_convertvector(i, Pack));  // a true lane is -1
}
static inline Pack unit_pack(Mask i, int salt) {
  typedef unsigned Bits __attribute__((vector_size(kLanes * sizeof(int))));
  Bits h = reinterpret_cast<Bits>(i) * 0x9E3779B1u + static_cast<unsigned>(salt) * 0x85EBCA77u;
  h ^= h >> 15;
  h *= 0x2C1B3C6Du;
  h ^= h >> 12;
  return __builtin_convertvector(reinterpret_cast<Mask>(h >> 9), Pack) * (1.0f / 8388608.0f);
}
// Smooth noise in 0..1 along one axis: what locks and strands are made of.
static inline Pack noise1(Pack x, int salt) {
  Mask i = floor_pack(x);
  Pack f = x - __builtin_convertvector(i, Pack);
  f = f * f * (3.0f - 2.0f * f);
  Pack a = unit_pack(i, salt), b = unit_pack(i + 1, salt);
  return a + (b - a) * f;
}
static inline Pack noise2(Pack x, Pack y, int salt) {
  Mask i = floor_pack(x), j = floor_pack(y);
  Pack f = x - __builtin_convertvector(i, Pack), g = y - __builtin_convertvector(j, Pack);
  f = f * f * (3.0f - 2.0f * f), g = g * g * (3.0f - 2.0f * g);
  Mask at = i * 1597 + j * 51749;
  Pack a = unit_pack(at, salt), b = unit_pack(at + 1597, salt), c = unit_pack(at + 51749, salt), d = unit_pack(at + 53346, salt);
  Pack top = a + (b - a) * f, low = c + (d - c) * f;
  return top + (low - top) * g;
}

static inline float noise1(float x, int salt) {
  int i = floor_int(x);
  float f = x - i;
  f = f * f * (3.0f - 2.0f * f);
  return mix(unit(hash2(i, salt)), unit(hash2(i + 1, salt)), f);
}

static inline Colour blend(Colour a, Colour b, float k) { return mix(a, b, clamp01(k)); }
static inline Colour linear(Colour c) { return {c.r * c.r, c.g * c.g, c.b * c.b}; }

}  // namespace film
