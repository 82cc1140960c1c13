// Sixteen rays at a time: plain GCC / Clang vector extensions, so the same source gives SSE, AVX-512 or NEON code.
#pragma once

namespace face {

constexpr int kLanes = 16;
typedef float Pack __attribute__((vector_size(kLanes * sizeof(float))));
typedef int Mask __attribute__((vector_size(kLanes * sizeof(int))));

static inline Pack splat(float value) { return Pack{} + value; }
static inline Pack pick(Mask where, Pack yes, Pack no) { return where ? yes : no; }
static inline Pack minimum(Pack a, Pack b) { return a < b ? a : b; }
static inline Pack maximum(Pack a, Pack b) { return a > b ? a : b; }
static inline Pack absolute(Pack a) { return a < 0.0f ? -a : a; }

static inline Pack root(Pack a) {
  Pack out;
  for (int i = 0; i < kLanes; ++i) out[i] = __builtin_sqrtf(a[i]);
  return out;
}

static inline bool any(Mask mask) {
  int found = 0;
  for (int i = 0; i < kLanes; ++i) found |= mask[i];
  return found != 0;
}

// Polynomial smooth minimum: equals min(a, b) where they differ by more than k, and is rounded between.
static inline Pack blend_min(Pack a, Pack b, float k) {
  Pack h = maximum(k - absolute(a - b), splat(0.0f)) * (1.0f / k);
  return minimum(a, b) - h * h * (k * 0.25f);
}
static inline Pack blend_max(Pack a, Pack b, float k) { return -blend_min(-a, -b, k); }

struct Points {
  Pack x, y, z;
};
static inline Points along(const Points& origin, const float direction[3], Pack t) {
  return {origin.x + direction[0] * t, origin.y + direction[1] * t, origin.z + direction[2] * t};
}

// An axis-aligned ellipsoid. `distance` is first-order exact near the surface, which is all that marching needs.
struct Ellipsoid {
  float cx, cy, cz, ix, iy, iz;
  Ellipsoid() = default;
  Ellipsoid(float x, float y, float z, float rx, float ry, float rz)
      : cx(x), cy(y), cz(z), ix(1.0f / rx), iy(1.0f / ry), iz(1.0f / rz) {}
  Pack distance(const Points& p) const {
    Pack qx = (p.x - cx) * ix, qy = (p.y - cy) * iy, qz = (p.z - cz) * iz;
    Pack k0 = root(qx * qx + qy * qy + qz * qz);
    qx *= ix, qy *= iy, qz *= iz;
    return k0 * (k0 - 1.0f) / (root(qx * qx + qy * qy + qz * qz) + 1e-6f);
  }
};

// A capsule whose radius goes from r0 at a to r1 at b.
struct Cone {
  float a[3], ab[3], inverse_length2, r0, dr;
  Cone() = default;
  Cone(float ax, float ay, float az, float bx, float by, float bz, float ra, float rb)
      : a{ax, ay, az}, ab{bx - ax, by - ay, bz - az}, r0(ra), dr(rb - ra) {
    inverse_length2 = 1.0f / (ab[0] * ab[0] + ab[1] * ab[1] + ab[2] * ab[2]);
  }
  Pack distance(const Points& p) const {
    Pack x = p.x - a[0], y = p.y - a[1], z = p.z - a[2];
    Pack h = (x * ab[0] + y * ab[1] + z * ab[2]) * inverse_length2;
    h = minimum(maximum(h, splat(0.0f)), splat(1.0f));
    x -= h * ab[0], y -= h * ab[1], z -= h * ab[2];
    return root(x * x + y * y + z * z) - (r0 + dr * h);
  }
};

// Where parallel rays meet a shape. `near_` is the smallest distance seen: below one pixel it is a soft edge.
struct Hit {
  Pack t, near_;
  Points p;
};

// Marches from t0 to t1 and stops at the surface, or reports the closest approach.
template <class Shape>
static inline Hit march(const Shape& shape, const Points& origin, const float direction[3], Pack t0, Pack t1, float stop) {
  Pack t = t0, best = splat(1e9f), best_t = t0;
  Mask live = t0 < t1;
  for (int step = 0; step < 40 && any(live); ++step) {
    Pack d = shape.distance(along(origin, direction, t));
    Mask closer = live & (d < best);
    best = pick(closer, d, best);
    best_t = pick(closer, t, best_t);
    live &= (d > stop);
    t = pick(live, t + maximum(d * 0.92f, splat(stop)), t);
    live &= (t < t1);
  }
  return {best_t, best, along(origin, direction, best_t)};
}

template <class Shape>
static inline Points normal_at(const Shape& shape, const Points& p, float eps) {
  const float k[4][3] = {{1, -1, -1}, {-1, -1, 1}, {-1, 1, -1}, {1, 1, 1}};
  Points n = {splat(0.0f), splat(0.0f), splat(0.0f)};
  for (const auto& s : k) {
    Pack d = shape.distance({p.x + s[0] * eps, p.y + s[1] * eps, p.z + s[2] * eps});
    n.x += d * s[0], n.y += d * s[1], n.z += d * s[2];
  }
  Pack inverse = 1.0f / root(n.x * n.x + n.y * n.y + n.z * n.z + 1e-12f);
  return {n.x * inverse, n.y * inverse, n.z * inverse};
}

}  // namespace face
