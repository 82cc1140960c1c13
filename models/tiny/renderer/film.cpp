// Draws one person of the film look into an 8-bit RGB picture. Plain C entry points for ctypes. No state, no
// randomness: the same numbers give the same pixels.
#include <cstdint>
#include <cstring>

#include "film_backdrop.h"
#include "film_labels.h"
#include "film_lens.h"
#include "film_scene.h"

namespace film {

constexpr float kFar = 3.4f;  // rays start on this plane
constexpr int kSide = 4;      // a packet is a square of 4 x 4 rays: what one ray skips, its neighbours skip too

struct Pixel {
  Colour c;        // premultiplied by a, linear
  float a, face;   // face: share where the face's own skin, eyes and mouth are what one sees
  Class kind;
};
static inline void over(Pixel& under, Colour c, float a, float face, Class kind) {
  under.c = under.c * (1.0f - a) + c * a;
  under.a = under.a * (1.0f - a) + a, under.face = under.face * (1.0f - a) + face * a;
  if (a > 0.5f) under.kind = kind;
}

struct Layer {
  face::Hit hit;
  Points n;
  Pack ao, shadow, alpha;
  bool seen = false;
};

struct Ball {
  float x, y, z, r;
};

// Where the rays meet a shape, and how much of each pixel it covers. fuzz widens the edge (loose hairs).
template <class Shape>
static Layer trace(const Shape& shape, const Points& o, const float ray[3], Ball b, float px) {
  Layer out;
  Pack bx = o.x - b.x, by = o.y - b.y, bz = o.z - b.z, along_ray = -(bx * ray[0] + by * ray[1] + bz * ray[2]);
  Pack depth2 = b.r * b.r - (bx * bx + by * by + bz * bz - along_ray * along_ray);
  out.hit.near_ = splat(1e9f);
  if (!any(depth2 > 0.0f)) return out;
  Pack reach = root(maximum(depth2, splat(0.0f)));
  float stop = 0.15f * px < 0.004f ? 0.15f * px : 0.004f;
  out.hit = face::march(shape, o, ray, along_ray - reach, pick(depth2 > 0.0f, along_ray + reach, along_ray - reach), stop);
  out.alpha = minimum(maximum(1.0f - (out.hit.near_ - stop) / px, splat(0.0f)), splat(1.0f));
  out.alpha = pick(depth2 > 0.0f, out.alpha, splat(0.0f));
  out.seen = any(out.alpha > 0.0f);
  return out;
}

template <class Shape>
static void normals(const Shape& shape, Layer& layer, float eps) {
  const float k[4][3] = {{1, -1, -1}, {-1, -1, 1}, {-1, 1, -1}, {1, 1, 1}};
  const Points& p = layer.hit.p;
  Points n = {splat(0.0f), splat(0.0f), splat(0.0f)};
  for (const auto& s : k) {
    Pack d = shape.detailed({p.x + s[0] * eps, p.y + s[1] * eps, p.z + s[2] * eps});
    n.x += d * s[0], n.y += d * s[1], n.z += d * s[2];
  }
  Pack inverse = 1.0f / root(n.x * n.x + n.y * n.y + n.z * n.z + 1e-12f);
  layer.n = {n.x * inverse, n.y * inverse, n.z * inverse};
}

template <class Shape>
static Pack openness(const Shape& shape, const Points& p, const Points& n, float far) {
  Pack d = shape.distance({p.x + far * n.x, p.y + far * n.y, p.z + far * n.z});
  return minimum(maximum(d * (1.0f / far), splat(0.0f)), splat(1.0f));
}

// Soft shadow of head and hair on themselves: how closely a walk towards the key passes them.
static Pack key_shadow(const Scene& s, const Points& p, const Points& n) {
  const float steps[] = {0.10f, 0.20f, 0.34f, 0.54f, 0.85f};
  Pack least_gap = splat(1.0f);
  const Vec k = s.key_head;
  for (float t : steps) {
    Points q = {p.x + 0.03f * n.x + k.x * t, p.y + 0.03f * n.y + k.y * t, p.z + 0.03f * n.z + k.z * t};
    Pack d = s.head.distance(q);
    if (s.hair.exists) d = minimum(d, s.hair.distance(q) + 0.02f);
    least_gap = minimum(least_gap, d * (1.0f / (0.30f * t)));
    if (!any(least_gap > -1.0f)) break;
  }
  return ramp(-1.0f, 0.75f, least_gap);
}

static inline Vec lane(const Points& p, int i) { return {p.x[i], p.y[i], p.z[i]}; }

static Colour body_lane(const Scene& s, const Layer& body, int i, float px, Class& kind) {
  Vec h = lane(body.hit.p, i), n = s.trunk.turn(lane(body.n, i)), c = s.trunk.to_camera(h);
  float edge = s.body.neckline_of(fabsf_(h.x), h.y, h.z), ax = fabsf_(h.x);
  // The head keeps light from the neck: a soft shadow towards the key and a dark place under the chin.
  Vec to = s.head_ball - c;
  float along = dot(to, s.light.key), gap = __builtin_sqrtf(above(dot(to, to) - along * along)) - 1.02f;
  float shadow = along > 0.0f ? 0.12f + 0.88f * smoothstep(-0.28f, 0.35f, gap) : 1.0f;
  float near_head = __builtin_sqrtf(dot(to, to)) - 1.05f, ao = 0.22f + 0.78f * smoothstep(-0.15f, 1.15f, near_head + 0.25f * n.z * 0.0f);
  ao *= 0.75f + 0.25f * body.ao[i];
  Matter m = {s.neck_c, 0.22f, 0.9f, 0.1f};
  kind = kNeck;
  float covered = inside(edge, px);
  if (edge > -0.10f) ao *= mix(1.0f, 0.72f, smoothstep(-0.10f, 0.0f, edge) * (1.0f - covered));
  if (s.p.necklace > 0.5f) {
    float chain = fabsf_(h.y - (1.78f + 0.20f * smoothstep(-0.5f, 0.2f, h.z) - 0.30f * ax * ax)) , bead = fabsf_(h.x * 13.0f - floor_int(h.x * 13.0f) - 0.5f);
    float on = inside(0.022f - chain - 0.02f * bead, px) * (1.0f - covered);
    m.albedo = blend(m.albedo, Colour{.90f, .74f, .36f}, on), m.gloss = mix(m.gloss, 0.9f, on);
    if (on > 0.5f) kind = kNecklace;
  }
  if (covered > 0.0f) {
    Colour c0 = s.cloth;
    float seam = 1.0f;
    if (s.body.kind == 0) seam = 1.0f - 0.16f * inside(0.012f - fabsf_(edge - 0.085f), px) ;
    if (s.body.kind == 1) seam = ax < 0.30f ? 1.0f - 0.22f * inside(0.010f - fabsf_(ax - 0.11f), px) * (edge > 0.12f) : 1.0f;
    if (s.body.kind == 2 && ax < 0.2f) {
      float cord = inside(0.022f - fabsf_(ax - 0.17f - 0.05f * value_noise(h.y * 2.0f, 3.0f)), px) * (edge > 0.1f) * (h.y < 2.9f);
      c0 = blend(c0, s.cloth2, cord);
    }
    if (s.body.kind == 4) c0 = blend(s.cloth2, s.cloth, inside(ax - (0.16f + 0.28f * above(2.75f - h.y)), px));
    float weave = px < 0.02f ? 0.96f + 0.08f * value_noise(h.x * 60.0f, h.y * 60.0f) : 1.0f;
    m.albedo = blend(m.albedo, c0 * (seam * weave), covered);
    m.gloss = mix(m.gloss, 0.04f, covered), m.soft = mix(m.soft, 0.25f, covered);
    if (covered > 0.5f) kind = kCloth;
  }
  return s.light.shade(m, n, ao, shadow);
}

static Colour head_lane(const Scene& s, const Layer& head, int i, Vec ray, float px, float& face_share, Class& kind) {
  Vec h = lane(head.hit.p, i), n = s.pose.turn(lane(head.n, i));
  Spot spot = {h.x, h.y, h.z, 0.6f * px / (n.z > 0.25f ? n.z : 0.25f)};
  float ao = head.ao[i], shadow = head.shadow[i];
  Matter m = s.skin.paint(spot, kind);
  Colour lit = s.light.shade(m, n, ao, shadow), bare = lit;
  auto turn = [&](Vec v) { return s.pose.turn(v); };
  if (h.z > 0.2f && fabsf_(h.y) < 0.45f) s.eyes.paint(spot, ray, s.light, turn, bare, ao, shadow, lit, kind);
  float hole = h.y > 0.5f ? s.skin.opening(spot) : 0.0f;
  if (hole > 0.0f) {
    lit = mix(lit, s.mouth.look(spot, ray, s.light, turn, shadow), hole);
    if (hole > 0.5f) kind = kMouth;
  }
  face_share = 1.0f;
  if (h.z < 0.05f && fabsf_(h.x) > 0.90f && h.y > -0.25f && h.y < 0.50f) kind = h.x < 0.0f ? kLeftEar : kRightEar;
  return lit;
}

static Colour hair_lane(const Scene& s, const Layer& hair, const Strand& strand, int i, float px, Class& kind) {
  Vec n = s.pose.turn(lane(hair.n, i)), h = lane(hair.hit.p, i);
  float ao = 0.25f + 0.75f * hair.ao[i];
  kind = s.hair.is_hat(h.x, h.y, h.z) ? kHat : kHair;
  if (kind == kHat) {
    float fine = px < 0.03f ? 0.92f + 0.16f * value_noise(h.x * 46.0f / (0.6f + fabsf_(h.z)), h.y * 20.0f) : 1.0f;
    return s.light.shade({s.hat_c * fine, 0.03f, 0.3f, 0.0f}, n, ao, hair.shadow[i]);
  }
  float a = strand.across[i], thin = 0.55f * smoothstep(0.013f, 0.004f, px), noise = noise1(a * 24.0f, 8);
  if (thin > 0.0f) noise = mix(noise, noise1(a * 95.0f, 7), thin);
  if (s.hair.curl > 0.3f) noise = mix(noise, 0.25f + 0.5f * value_noise(h.x * 22.0f + h.z * 14.0f, h.y * 22.0f), 0.8f);
  Colour c = s.hair_c * (0.80f + 0.40f * noise);
  if (s.p.hair_grey > 0.05f && s.p.hair_grey < 0.8f) c = mix(c, Colour{.68f, .67f, .66f}, 0.5f * s.p.hair_grey * (noise > 0.6f));
  return s.light.shade_hair(c, n, s.pose.turn(lane(strand.direction, i)), noise, ao, hair.shadow[i], 1.0f - 0.85f * (s.hair.curl > 0.3f));
}

static void thing_lane(const Scene& s, const Layer& thing, int i, Pixel& out) {
  Vec n = lane(thing.n, i), h = lane(thing.hit.p, i);
  Matter m = s.thing.matter(h.x, h.y, s.hand_c);
  over(out, s.light.shade(m, n, 0.45f + 0.55f * thing.ao[i], 1.0f), thing.alpha[i], 0.0f, kBackground);
}

struct Tile {
  Layer body, head, hair, thing;
  Strand strand;
  Points o;       // ray starts in head axes
};

static Mask hidden(const Layer& back, const Layer& front, float margin) {
  return (front.alpha > 0.99f) & (front.hit.t + margin < back.hit.t);
}

static void finish_head(const Scene& s, Tile& t, float px) {
  normals(s.head, t.head, px < 0.016f ? 0.016f : px);
  const Points& p = t.head.hit.p;
  t.head.ao = (0.30f + 0.70f * openness(s.head, p, t.head.n, 0.10f)) * (0.25f + 0.75f * openness(s.head, p, t.head.n, 0.30f));
  if (s.hair.exists) t.head.ao *= 0.35f + 0.65f * minimum(openness(s.hair, p, t.head.n, 0.14f) + 0.1f, splat(1.0f));
  t.head.shadow = key_shadow(s, p, t.head.n);
}

static void finish_hair(const Scene& s, Tile& t, float px) {
  normals(s.hair, t.hair, px < 0.014f ? 0.014f : px);
  const Points& p = t.hair.hit.p;
  t.strand = s.hair.strand(p, t.hair.n);
  Pack loose = noise1(t.strand.across * 70.0f, 9), fuzz = 0.030f * loose * loose * (1.0f + 1.2f * s.hair.curl);
  if (px < 0.05f && !s.hair.hat) t.hair.alpha = maximum(t.hair.alpha, minimum(maximum((fuzz - t.hair.hit.near_) * (0.6f / px), splat(0.0f)), splat(1.0f)));
  Points out_ = {p.x + 0.12f * t.hair.n.x, p.y + 0.12f * t.hair.n.y, p.z + 0.12f * t.hair.n.z};
  t.hair.ao = minimum(openness(s.hair, p, t.hair.n, 0.12f), minimum(maximum((s.head.distance(out_) + 0.02f) * 7.0f, splat(0.25f)), splat(1.0f)));
  Points q = {p.x + 0.3f * s.key_head.x + 0.05f * t.hair.n.x, p.y + 0.3f * s.key_head.y + 0.05f * t.hair.n.y, p.z + 0.3f * s.key_head.z + 0.05f * t.hair.n.z};
  t.hair.shadow = ramp(-0.16f, 0.14f, minimum(s.hair.distance(q), s.head.distance(q)));
}

// A small ball under each lobe.
static void earring(const Scene& s, Vec o, Vec ray, float px, float nearest, Pixel& out) {
  for (int side = -1; side <= 1; side += 2) {
    Vec c = {side * (s.head.ear_x + 0.055f), 0.13f + s.head.lobe_y + 0.075f, -0.10f}, d = o - c;
    float b = dot(d, ray), far = dot(d, d) - b * b, r = 0.052f;
    if (far > sq(r + px)) continue;
    float share = inside(r - __builtin_sqrtf(far), px), t = -b - __builtin_sqrtf(above(r * r - far));
    if (t > nearest) continue;
    Vec n = s.pose.turn((d + ray * t) * (1.0f / r));
    over(out, s.light.shade({{.93f, .78f, .42f}, 1.3f, 0.0f, 0.8f}, normal(n), 0.9f, 1.0f), share, 0.0f, kEarring);
  }
}

static void glasses_lane(const Scene& s, Vec o, Vec ray, float px, float head_a, float nearest, Pixel& out) {
  float t, lens;
  Vec n;
  float rim = s.glasses.at_ray(o, ray, 0.6f * px, t, n, lens);
  if (lens > 0.0f && t < nearest + 0.05f) {
    float glare = 0.05f + 0.10f * smoothstep(0.25f, -0.2f, (o.y + t * ray.y) + 0.6f * (o.x + t * ray.x));
    Colour shade = s.glasses.sun > 0.5f ? Colour{.05f, .055f, .065f} : Colour{.93f, .94f, .95f};
    out.c = mix(out.c, out.c * shade + s.light.sky * (glare * out.a), lens);
    if (lens > 0.5f && s.glasses.sun > 0.5f && out.kind != kBackground) out.kind = kGlasses;
  }
  if (rim <= 0.0f || t > nearest + 0.22f) return;
  over(out, s.light.shade({s.glasses.colour, 0.7f, 0.0f, 0.6f}, s.pose.turn(n), 1.0f, 1.0f), rim, head_a, kGlasses);
}

// One surface that a ray meets, ready to be laid over what lies behind it.
struct Sheet {
  float t, a, face;
  Colour c;
  Class kind;
  bool before_glasses;
};

static void shade_lane(const Scene& s, Tile& t, int i, Vec head_ray, float px, Pixel& out) {
  out = {{0, 0, 0}, 0, 0, kBackground};
  Sheet sheets[4];
  int count = 0;
  Class kind;
  float head_a = t.head.seen ? t.head.alpha[i] : 0.0f, hair_a = t.hair.seen ? t.hair.alpha[i] : 0.0f;
  float head_t = head_a > 0.0f ? t.head.hit.t[i] : 1e9f, hair_t = hair_a > 0.0f ? t.hair.hit.t[i] : 1e9f;
  if (t.body.seen && t.body.alpha[i] > 0.0f) {
    Colour c = body_lane(s, t.body, i, px, kind);
    sheets[count++] = {t.body.hit.t[i], t.body.alpha[i], 0.0f, c, kind, false};
  }
  if (head_a > 0.0f) {
    float face_share = 0.0f;
    Colour c = head_lane(s, t.head, i, head_ray, px, face_share, kind);
    sheets[count++] = {head_t, head_a, face_share, c, kind, false};
  }
  if (hair_a > 0.0f) {
    Colour c = hair_lane(s, t.hair, t.strand, i, px, kind);
    float ragged = kind == kHat ? 0.0f : 0.030f * (noise1(t.strand.across[i] * 60.0f, 10) - 0.6f);
    float front = head_a > 0.0f ? smoothstep(-0.010f - px, 0.016f + px, head_t - hair_t + ragged) : 1.0f;
    if (front < 1.0f) sheets[count++] = {hair_t > head_t ? hair_t : head_t + 1e-4f, hair_a, 0.0f, c, kind, false};
    if (front > 0.0f) sheets[count++] = {hair_t < head_t ? hair_t : head_t - 1e-4f, hair_a * front, 0.0f, c, kind, true};
  }
  for (int k = 1; k < count; ++k)  // farthest first
    for (int j = k; j > 0 && sheets[j - 1].t < sheets[j].t; --j) {
      Sheet nearer = sheets[j - 1];
      sheets[j - 1] = sheets[j], sheets[j] = nearer;
    }
  const Vec o = lane(t.o, i);
  const float nearest = head_t < hair_t ? head_t : hair_t;
  bool worn = s.p.glasses < 0.5f;
  for (int k = 0; k < count; ++k) {
    if (sheets[k].before_glasses && !worn) glasses_lane(s, o, head_ray, px, head_a, nearest, out), worn = true;
    over(out, sheets[k].c, sheets[k].a, sheets[k].face, sheets[k].kind);
  }
  if (!worn) glasses_lane(s, o, head_ray, px, head_a, nearest, out);
  if (s.p.earring > 0.5f) earring(s, o, head_ray, px, nearest, out);
  if (t.thing.seen && t.thing.alpha[i] > 0.0f) thing_lane(s, t.thing, i, out);
}

static void draw_tile(const Scene& s, const float view[6], float px, int ss, int x0, int y0, Pixel* out) {
  Pack sx, sy;
  for (int i = 0; i < kLanes; ++i) sx[i] = x0 + (i % kSide + 0.5f) / ss - 0.5f, sy[i] = y0 + (i / kSide + 0.5f) / ss - 0.5f;
  Pack ux = view[0] * sx + view[1] * sy + view[2], uy = view[3] * sx + view[4] * sy + view[5];
  Tile t;
  t.o = s.pose.to_own(ux, uy, kFar);
  Points bo = s.trunk.to_own(ux, uy, kFar), to = {ux, uy, splat(kFar)};
  Vec hr = s.pose.back({0, 0, -1}), br = s.trunk.back({0, 0, -1});
  const float head_ray[3] = {hr.x, hr.y, hr.z}, body_ray[3] = {br.x, br.y, br.z}, straight[3] = {0, 0, -1};
  if (s.thing.kind > 0) {
    t.thing = trace(s.thing, to, straight, {s.thing.x - 3.5f * s.thing.size * s.thing.s, s.thing.y + 3.5f * s.thing.size * s.thing.c, 1.6f, 9.0f * s.thing.size}, px);
    if (t.thing.seen) normals(s.thing, t.thing, px < 0.01f ? 0.01f : px), t.thing.ao = openness(s.thing, t.thing.hit.p, t.thing.n, 0.15f);
  }
  t.head = trace(s.head, t.o, head_ray, {0.0f, 0.06f, -0.1f, 1.70f}, px);
  if (s.hair.exists) t.hair = trace(s.hair, t.o, head_ray, {0.0f, 0.1f, -0.4f, 2.60f}, px);
  if (s.hair.exists && !t.hair.seen && any(t.hair.hit.near_ < 0.03f)) t.hair.seen = true;
  t.body = trace(s.body, bo, body_ray, {0.0f, 4.2f, -0.45f, 4.0f}, px);
  if (t.hair.seen && t.head.seen && !any((t.hair.alpha > 0.0f) & ~hidden(t.hair, t.head, 0.12f))) t.hair.seen = false;
  if (t.hair.seen) finish_hair(s, t, px);
  if (t.head.seen && t.hair.seen && !any((t.head.alpha > 0.0f) & ~hidden(t.head, t.hair, 0.06f))) t.head.seen = false;
  if (t.head.seen) finish_head(s, t, px);
  if (t.body.seen) normals(s.body, t.body, px < 0.02f ? 0.02f : px), t.body.ao = openness(s.body, t.body.hit.p, t.body.n, 0.25f);
  const bool nothing = !t.body.seen && !t.head.seen && !t.hair.seen && !t.thing.seen && s.p.glasses < 0.5f;
  for (int i = 0; i < kLanes; ++i) {
    if (nothing) out[i] = {{0, 0, 0}, 0, 0, kBackground};
    else shade_lane(s, t, i, hr, px, out[i]);
  }
}

// Where an edge runs through a quarter of a tile, or along it, one ray a pixel is not enough.
static bool has_edge(const Pixel* tile, int left, int top) {
  const Class kind = tile[top * kSide + left].kind;
  for (int y = top > 0 ? top - 1 : 0; y < kSide && y < top + 3; ++y)
    for (int x = left > 0 ? left - 1 : 0; x < kSide && x < left + 3; ++x) {
      const Pixel& q = tile[y * kSide + x];
      if (q.kind != kind || (q.a > 0.0f && q.a < 1.0f)) return true;
    }
  return false;
}

static uint8_t to_byte(float x) { return static_cast<uint8_t>(x < 0.0f ? 0.0f : (x > 1.0f ? 255.0f : x * 255.0f + 0.5f)); }

// The samples of one pixel become one: coverage in light, the class by the most votes.
static void resolve(const Pixel* tile, int ss, int px, int py, uint8_t* rgb, uint8_t* mask, uint8_t* classes) {
  Colour light = {0, 0, 0};
  float a = 0.0f, face = 0.0f;
  uint8_t votes[kClasses] = {};
  for (int y = 0; y < ss; ++y)
    for (int x = 0; x < ss; ++x) {
      const Pixel& q = tile[(py * ss + y) * kSide + px * ss + x];
      votes[q.kind]++;
      if (q.a <= 0.0f) continue;
      const Colour c = q.c * (1.0f / q.a);
      light = light + Colour{sq(display(c.r)), sq(display(c.g)), sq(display(c.b))} * q.a;
      a += q.a, face += q.face;
    }
  const float share = 1.0f / (ss * ss), behind = 1.0f - a * share, c[3] = {light.r * share, light.g * share, light.b * share};
  for (int j = 0; j < 3 && a > 0.0f; ++j) rgb[j] = to_byte(__builtin_sqrtf(c[j] + behind * sq(rgb[j] * (1.0f / 255.0f))));
  if (mask) *mask = to_byte(face * share + behind * *mask * (1.0f / 255.0f));
  if (classes && a * share > 0.5f) {
    int best = 0;
    for (int k = 1; k < kClasses; ++k) best = votes[k] > votes[best] ? k : best;
    *classes = static_cast<uint8_t>(best);
  }
}

}  // namespace film

extern "C" {

const char* film_names(int group) { return group == 0 ? film::kInnerNames : (group == 1 ? film::kOuterNames : film::kNuisanceNames); }

// points: `count` landmarks (5, 68 or 98) as x, y; box: the face's outline extent x0 y0 x1 y1; head units before `view`.
int film_geometry(const float* params, int count, float* points, float* box) {
  film::Scene s(*reinterpret_cast<const film::Params*>(params));
  return film::geometry(s, count, points, box);
}

// view: 2x3, head units from pixels. image: RGB bytes [h][w], drawn over. mask: visible face share [h][w] or null.
// classes: BiSeNet's classes [h][w] or null. ss: 1, 2 or 4 rays along a pixel's side; 0: 1, and 2 where edges are.
void film_draw(const float* params, const float* view, uint8_t* image, uint8_t* mask, uint8_t* classes, int w, const int* region, int ss, int threads) {
  const film::Scene s(*reinterpret_cast<const film::Params*>(params));
  const int x0 = region[0], y0 = region[1], x1 = region[2], y1 = region[3], first = ss > 0 ? ss : 1, step = film::kSide / first;
  const float px = __builtin_sqrtf(film::sq(view[0]) + film::sq(view[3]));
  auto write = [&](const film::Pixel* tile, int side, int i, int j, int x, int y) {
    if (x >= x1 || y >= y1) return;
    const size_t at = static_cast<size_t>(y) * w + x;
    film::resolve(tile, side, i, j, image + at * 3, mask ? mask + at : nullptr, classes ? classes + at : nullptr);
  };
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (threads > 1)
  for (int y = y0 & ~3; y < y1; y += step)
    for (int x = x0 & ~3; x < x1; x += step) {
      film::Pixel tile[film::kLanes], fine[film::kLanes];
      film::draw_tile(s, view, px / first, first, x, y, tile);
      if (ss > 0) {
        for (int k = 0; k < step * step; ++k) write(tile, first, k % step, k / step, x + k % step, y + k / step);
        continue;
      }
      for (int q = 0; q < 4; ++q) {
        const int left = 2 * (q & 1), top = 2 * (q >> 1);
        const bool edge = film::has_edge(tile, left, top);
        if (edge) film::draw_tile(s, view, px / 2, 2, x + left, y + top, fine);
        for (int k = 0; k < 4; ++k) {
          const int i = k & 1, j = k >> 1;
          if (edge) write(fine, 2, i, j, x + left + i, y + top + j);
          else write(tile, 1, left + i, top + j, x + left + i, y + top + j);
        }
      }
    }
}

void film_backdrop(uint32_t seed, int style, uint8_t* image, int w, int h) { film::draw_backdrop(seed, style, image, w, h); }

void film_smear(const uint8_t* in, uint8_t* out, int w, int h, float dx, float dy) { film::smear(in, out, w, h, dx, dy); }

void film_sensor(uint32_t seed, float read, float shot, uint8_t* image, int w, int h) { film::sensor(seed, read, shot, image, w, h); }

void film_compress(float strength, uint8_t* image, int w, int h) { film::Blocks(strength).apply(image, w, h); }
}
