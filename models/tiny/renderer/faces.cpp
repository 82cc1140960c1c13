// Draws one person into an 8-bit RGB picture: parallel rays against smooth solids, features painted on the hit point.
// Plain C entry points for ctypes. No state, no randomness: the same numbers give the same pixels.
#include <cstdint>
#include <cstring>
#include <vector>

#include "backdrop.h"
#include "paint.h"

namespace face {

struct Pose {
  float m[9];  // camera from head
  float pivot[3];
  Pose(float yaw, float pitch, float roll, float px, float py, float pz) : pivot{px, py, pz} {
    float cy = __builtin_cosf(yaw), sy = __builtin_sinf(yaw), cp = __builtin_cosf(pitch), sp = __builtin_sinf(pitch);
    float cr = __builtin_cosf(roll), sr = __builtin_sinf(roll);
    // roll * pitch * yaw; yaw > 0 turns the nose to the image's right, pitch > 0 lowers it, roll > 0 is clockwise.
    float a[9] = {cy, 0, sy, -sp * sy, cp, sp * cy, -cp * sy, -sp, cp * cy};
    for (int c = 0; c < 3; ++c) {
      m[c] = cr * a[c] - sr * a[3 + c];
      m[3 + c] = sr * a[c] + cr * a[3 + c];
      m[6 + c] = a[6 + c];
    }
  }
  void to_camera(const float in[3], float out[3]) const {
    float d[3] = {in[0] - pivot[0], in[1] - pivot[1], in[2] - pivot[2]};
    for (int r = 0; r < 3; ++r) out[r] = m[r * 3] * d[0] + m[r * 3 + 1] * d[1] + m[r * 3 + 2] * d[2] + pivot[r];
  }
  Points to_head(Pack x, Pack y, float z) const {
    Pack dx = x - pivot[0], dy = y - pivot[1];
    float dz = z - pivot[2];
    return {m[0] * dx + m[3] * dy + m[6] * dz + pivot[0], m[1] * dx + m[4] * dy + m[7] * dz + pivot[1], m[2] * dx + m[5] * dy + m[8] * dz + pivot[2]};
  }
  void ray(float out[3]) const { out[0] = -m[6], out[1] = -m[7], out[2] = -m[8]; }
};

constexpr float kFar = 3.2f;     // rays start on this plane
constexpr float kDegree = 0.017453293f;

struct Scene {
  Params p;
  Layout at;
  Head head;
  Hair hair;
  Body body;
  Pose pose, trunk;
  Painter painter;
  bool has_hair;
  float key[3], key_gain, fill;
  Colour key_tint, fill_tint;
  explicit Scene(const Params& params)
      : p(params), at(p), head(p, at), hair(p, head), body(p), pose(p.yaw * kDegree, p.pitch * kDegree, p.roll * kDegree, 0.0f, 0.75f, -0.25f),
        trunk(0.30f * p.yaw * kDegree, 0.0f, 0.25f * p.roll * kDegree, 0.0f, 2.2f, -0.45f), painter(p, at), has_hair(p.hair_amount > 0.0f || p.hat > 0.5f) {
    float length = __builtin_sqrtf(sq(p.light_x) + sq(p.light_y) + 1.0f);
    key[0] = p.light_x / length, key[1] = p.light_y / length, key[2] = 1.0f / length;
    key_gain = 0.78f * p.light_gain, fill = p.ambient * p.light_gain;
    key_tint = {1.0f + 0.10f * p.warmth, 1.0f, 1.0f - 0.14f * p.warmth};
    fill_tint = {1.0f - 0.05f * p.warmth, 1.0f, 1.0f + 0.07f * p.warmth};
  }

  // Light on a matt surface with a little gloss; `soft` wraps it round the edge as skin does.
  Colour shade(Colour albedo, const float n[3], float shade_ao, float gloss, float soft) const {
    float dot = n[0] * key[0] + n[1] * key[1] + n[2] * key[2];
    float lit = clamp01((dot + soft) / (1.0f + soft));
    float half = clamp01((n[0] * key[0] + n[1] * key[1] + n[2] * (key[2] + 1.0f)) / __builtin_sqrtf(sq(key[0]) + sq(key[1]) + sq(key[2] + 1.0f)));
    float spec = sq(sq(sq(sq(half)))) * gloss;
    float sky = fill * (0.72f - 0.28f * n[1]) * shade_ao;
    Colour light = key_tint * (key_gain * lit * (0.45f + 0.55f * shade_ao)) + fill_tint * sky;
    Colour linear = Colour{sq(albedo.r), sq(albedo.g), sq(albedo.b)} * light;
    if (soft > 0.2f) linear.r += 0.05f * sq(albedo.r) * lit * (1.0f - lit) * key_gain * 4.0f;  // red terminator of skin
    return linear + key_tint * (spec * key_gain);
  }
};

static inline float display(float linear) {  // gamma 2 with a soft shoulder above 0.8
  float x = __builtin_sqrtf(linear > 0.0f ? linear : 0.0f);
  return x < 0.8f ? x : 0.8f + 0.2f * ((x - 0.8f) / (x - 0.8f + 0.2f)) * 1.25f;
}

struct Pixel {
  float r, g, b, a, face;  // premultiplied by a; face = share where the face's skin is what one sees
};

static inline void over(Pixel& under, Colour c, float a, float face) {
  under.r = under.r * (1 - a) + c.r * a, under.g = under.g * (1 - a) + c.g * a, under.b = under.b * (1 - a) + c.b * a;
  under.a = under.a * (1 - a) + a;
  under.face = under.face * (1 - a) + face * a;
}

struct Layer {
  Hit hit;
  Points n;
  Pack ao, alpha;
  bool seen;
};

template <class Shape>
static Layer trace(const Shape& shape, const Points& o, const float ray[3], float cx, float cy, float cz, float radius, float px, bool with_ao) {
  Layer out;
  Pack bx = o.x - cx, by = o.y - cy, bz = o.z - cz;
  Pack along_ray = -(bx * ray[0] + by * ray[1] + bz * ray[2]);
  Pack square = bx * bx + by * by + bz * bz - along_ray * along_ray;
  Pack depth2 = splat(radius * radius) - square;
  out.seen = any(depth2 > 0.0f);
  if (!out.seen) return out;
  Pack reach = root(maximum(depth2, splat(0.0f)));
  float stop = 0.15f * px < 0.004f ? 0.15f * px : 0.004f;
  out.hit = march(shape, o, ray, along_ray - reach, along_ray + reach, stop);
  out.alpha = minimum(maximum(1.0f - (out.hit.near_ - stop) / px, splat(0.0f)), splat(1.0f));
  out.alpha = pick(depth2 > 0.0f, out.alpha, splat(0.0f));
  out.seen = any(out.alpha > 0.0f);
  if (!out.seen) return out;
  out.n = normal_at(shape, out.hit.p, px < 0.02f ? 0.02f : px);
  out.ao = splat(1.0f);
  if (with_ao) {
    Pack d = shape.distance({out.hit.p.x + 0.17f * out.n.x, out.hit.p.y + 0.17f * out.n.y, out.hit.p.z + 0.17f * out.n.z});
    out.ao = minimum(maximum(d * (1.0f / 0.17f), splat(0.15f)), splat(1.0f));
  }
  return out;
}

static void to_camera_normal(const Pose& pose, const Layer& layer, int i, float n[3]) {
  for (int r = 0; r < 3; ++r) n[r] = pose.m[r * 3] * layer.n.x[i] + pose.m[r * 3 + 1] * layer.n.y[i] + pose.m[r * 3 + 2] * layer.n.z[i];
}

static Colour body_colour(const Scene& s, float x, float y, float z, float w) {
  float v = 2.02f + 0.30f * s.p.collar + (0.42f - 0.30f * s.p.collar) * clamp01(1.0f - fabsf_(x) / 0.62f) * (z > -0.4f ? 1.0f : 0.0f);
  Colour cloth = {s.p.cloth_r, s.p.cloth_g, s.p.cloth_b};
  float weave = w < 0.03f ? 0.97f + 0.06f * value_noise(x * 40.0f, y * 40.0f) : 1.0f;
  cloth = cloth * (weave - 0.18f * inside(0.05f - fabsf_(y - v - 0.05f), w));
  return mix(skin_colour(s.p.neck_tone, s.p.neck_hue) * 0.97f, cloth, inside(y - v, w));
}

static Colour hair_colour(const Scene& s, float x, float y, float z, float w) {
  if (s.p.hat > 0.5f) {
    Colour c = {s.p.hat_r, s.p.hat_g, s.p.hat_b};
    float band = y + 0.16f * z > -0.78f ? 0.82f : 1.0f;
    float rib = w < 0.04f ? 0.93f + 0.14f * value_noise((x / (fabsf_(z) + 0.6f)) * 24.0f, band * 9.0f) : 1.0f;
    return c * (band * rib);
  }
  Colour c = {s.p.hair_r, s.p.hair_g, s.p.hair_b};
  float across = (x - 0.12f * s.p.hair_part) / (0.55f + 0.35f * fabsf_(y + 1.3f) + 0.3f * fabsf_(z));
  float strand = value_noise(across * 34.0f + 9.0f, y * 2.2f + z) * 0.65f + value_noise(across * 90.0f, y * 3.0f) * 0.35f;
  return c * (w < 0.05f ? 0.72f + 0.56f * strand : 1.0f);
}

// Glasses stand on a plane in front of the face; returns their share at the ray and sets the colour.
static float glasses_at(const Scene& s, const float o[3], const float ray[3], float w, float& t, bool& lens) {
  lens = false;
  if (s.p.glasses < 0.5f || ray[2] > -0.25f) return 0.0f;
  t = (1.0f - o[2]) / ray[2];
  float x = o[0] + t * ray[0], y = o[1] + t * ray[1] - 0.035f, ax = fabsf_(x), k = 0.5f * (s.p.glasses_shape + 1.0f);
  float dx = fabsf_(ax - 0.44f) / 0.315f, dy = fabsf_(y) / (0.205f + 0.06f * (1 - k));
  float round_ = __builtin_sqrtf(sq(dx) + sq(dy)), square_ = __builtin_sqrtf(__builtin_sqrtf(sq(sq(dx)) + sq(sq(dy))));
  float d = (mix(round_, square_, k) - 1.0f) * 0.24f, rim = inside(0.024f - fabsf_(d), w);
  float bridge = ax < 0.15f ? inside(0.020f - fabsf_(y + 0.05f - 0.8f * sq(x)), w) : 0.0f;
  float hinge = ax > 0.74f ? inside(0.026f - fabsf_(y + 0.035f), w) * inside(0.97f - ax, w) : 0.0f;
  float a = rim > bridge ? rim : bridge;
  if (hinge > a) a = hinge;
  if (a < 0.05f && d < 0.0f) lens = true;
  if (a < 0.05f) {  // side bars
    float side = ray[0] < 0.0f ? 1.0f : -1.0f;
    if (fabsf_(ray[0]) > 0.05f) {
      float ts = (side * 0.97f - o[0]) / ray[0], ys = o[1] + ts * ray[1], zs = o[2] + ts * ray[2];
      if (zs > -0.05f && zs < 1.0f) {
        float bar = inside(0.028f - fabsf_(ys - 0.0f), w);
        if (bar > a) a = bar, t = ts;
      }
    }
  }
  return a;
}

static void shade_lane(const Scene& s, const Layer& body, const Layer& head, const Layer& hair, int i, const Points& ho, const float ray[3], float px, Pixel& out) {
  float n[3];
  Colour head_c = {0, 0, 0}, hair_c = {0, 0, 0};
  float head_a = head.seen ? head.alpha[i] : 0.0f, hair_a = hair.seen ? hair.alpha[i] : 0.0f;
  if (body.seen && body.alpha[i] > 0.0f) {
    to_camera_normal(s.trunk, body, i, n);
    float y = body.hit.p.y[i], chin_shadow = 0.45f + 0.55f * smoothstep(1.15f, 2.0f, y + 0.4f * fabsf_(body.hit.p.x[i]));
    Colour c = body_colour(s, body.hit.p.x[i], y, body.hit.p.z[i], px);
    over(out, s.shade(c, n, body.ao[i] * chin_shadow, 0.02f, 0.25f), body.alpha[i], 0.0f);
  }
  if (head_a > 0.0f) {
    to_camera_normal(s.pose, head, i, n);
    float front = n[2] > 0.25f ? n[2] : 0.25f;
    Surface f = s.painter.paint({head.hit.p.x[i], head.hit.p.y[i], head.hit.p.z[i], 0.6f * px / front});
    float ao = head.ao[i];
    head_c = s.shade(f.albedo, n, ao, f.gloss, 0.30f) + Colour{f.glow, f.glow, f.glow};
  }
  if (hair_a > 0.0f) {
    to_camera_normal(s.pose, hair, i, n);
    Colour c = hair_colour(s, hair.hit.p.x[i], hair.hit.p.y[i], hair.hit.p.z[i], px);
    hair_c = s.shade(c, n, hair.ao[i], s.p.hat > 0.5f ? 0.0f : 0.05f, 0.15f);
  }
  float head_t = head_a > 0.0f ? head.hit.t[i] : 1e9f, hair_t = hair_a > 0.0f ? hair.hit.t[i] : 1e9f;
  bool hair_first = hair_t < head_t;
  if (hair_a > 0.0f && !hair_first) over(out, hair_c, hair_a, 0.0f);
  if (head_a > 0.0f) over(out, head_c, head_a, 1.0f);
  float t = 0.0f, o[3] = {ho.x[i], ho.y[i], ho.z[i]};
  bool lens;
  float rim = glasses_at(s, o, ray, 0.6f * px, t, lens);
  if (lens && head_a > 0.5f) out.r = out.r * 0.95f + 0.012f, out.g = out.g * 0.95f + 0.013f, out.b = out.b * 0.95f + 0.015f;
  float nearest = head_t < hair_t ? head_t : hair_t;
  if (rim > 0.0f && t < nearest + 0.25f) over(out, Colour{sq(s.p.glasses_r), sq(s.p.glasses_g), sq(s.p.glasses_b)}, rim, head_a);
  if (hair_a > 0.0f && hair_first) over(out, hair_c, hair_a, 0.0f);
}

static void occlude(const Scene& s, float x, float y, float w, Pixel& out) {
  if (s.p.occluder < 0.5f) return;
  float angle = s.p.occluder_angle * kDegree, c = __builtin_cosf(angle), n = __builtin_sinf(angle), size = s.p.occluder_size;
  float dx = x - s.p.occluder_x, dy = y - s.p.occluder_y, u = c * dx + n * dy, v = -n * dx + c * dy, d;
  if (s.p.occluder < 1.5f) {  // a stick
    float beyond = fabsf_(u) - 2.2f * size;
    d = 0.42f * size - (beyond > 0.0f ? __builtin_sqrtf(sq(beyond) + sq(v)) : fabsf_(v));
  } else if (s.p.occluder < 2.5f) {  // a ball
    d = size - __builtin_sqrtf(sq(u) + sq(v));
  } else {  // a card
    float ex = fabsf_(u) - 1.1f * size, ey = fabsf_(v) - 0.75f * size;
    d = -(ex > ey ? ex : ey);
  }
  float a = inside(d, w), light = 0.80f + 0.35f * clamp01(d / size) - 0.10f * v / size;
  if (a > 0.0f) over(out, Colour{sq(s.p.occluder_r), sq(s.p.occluder_g), sq(s.p.occluder_b)} * light, a, 0.0f);
}

static void draw_row(const Scene& s, const float view[6], float px, int ss, int row, int x0, int x1, Pixel* out) {
  float head_ray[3], body_ray[3];
  s.pose.ray(head_ray), s.trunk.ray(body_ray);
  for (int x = x0 * ss; x < x1 * ss; x += kLanes) {
    Pack sx, vy = splat((row + 0.5f) / ss - 0.5f);
    for (int i = 0; i < kLanes; ++i) sx[i] = (x + i + 0.5f) / ss - 0.5f;
    Pack ux = view[0] * sx + view[1] * vy + view[2], uy = view[3] * sx + view[4] * vy + view[5];
    Points ho = s.pose.to_head(ux, uy, kFar), bo = s.trunk.to_head(ux, uy, kFar);
    Layer body = trace(s.body, bo, body_ray, 0.0f, 2.5f, -0.45f, 2.05f, px, false), head = trace(s.head, ho, head_ray, 0.0f, 0.06f, -0.1f, 1.66f, px, true), hair;
    if (body.seen) body.ao = splat(1.0f);
    hair.seen = false;
    if (s.has_hair) hair = trace(s.hair, ho, head_ray, 0.0f, 0.0f, -0.3f, 2.35f, px, true);
    for (int i = 0; i < kLanes && x + i < x1 * ss; ++i) {
      Pixel& pixel = out[x + i - x0 * ss];
      pixel = {0, 0, 0, 0, 0};
      if (body.seen || head.seen || hair.seen || s.p.glasses > 0.5f) shade_lane(s, body, head, hair, i, ho, head_ray, px, pixel);
      occlude(s, ux[i], uy[i], 0.6f * px, pixel);
    }
  }
}

static uint8_t to_byte(float x) { return static_cast<uint8_t>(x < 0.0f ? 0.0f : (x > 1.0f ? 255.0f : x * 255.0f + 0.5f)); }

// The first surface point below (x, y) when one looks at the head from the front.
static void front_point(const Head& head, float x, float y, float out[3]) {
  const float ray[3] = {0, 0, -1};
  Hit h = march(head, {splat(x), splat(y), splat(1.6f)}, ray, splat(0.0f), splat(3.0f), 0.001f);
  out[0] = x, out[1] = y, out[2] = h.p.z[0];
}

static void five_points(const Scene& s, float out[5][3]) {
  front_point(s.head, -s.at.eye_x, 0.0f, out[0]);
  front_point(s.head, s.at.eye_x, 0.0f, out[1]);
  front_point(s.head, 0.0f, s.at.nose_y - 0.02f, out[2]);
  float corner_y = s.at.mouth_y - 0.75f * s.at.lift;
  front_point(s.head, -s.at.mouth_w, corner_y, out[3]);
  front_point(s.head, s.at.mouth_w, corner_y, out[4]);
}

// The box of the face below the hairline: rays from inside the head to its skin, projected.
static void face_box(const Scene& s, float box[4]) {
  box[0] = box[1] = 1e9f, box[2] = box[3] = -1e9f;
  for (int row = 0; row < 9; ++row) {
    float elevation = (-43.0f + row * 13.5f) * kDegree;
    Pack dx, dz, t = splat(2.4f);
    for (int i = 0; i < kLanes; ++i) {
      float around = (-78.0f + i * 10.4f) * kDegree;
      dx[i] = __builtin_sinf(around) * __builtin_cosf(elevation), dz[i] = __builtin_cosf(around) * __builtin_cosf(elevation);
    }
    float dy = __builtin_sinf(elevation);
    for (int step = 0; step < 24; ++step) t -= 0.9f * s.head.distance({dx * t, 0.25f + dy * t, dz * t - 0.1f});
    for (int i = 0; i < kLanes; ++i) {
      float in[3] = {dx[i] * t[i], 0.25f + dy * t[i], dz[i] * t[i] - 0.1f}, cam[3];
      s.pose.to_camera(in, cam);
      box[0] = cam[0] < box[0] ? cam[0] : box[0], box[1] = cam[1] < box[1] ? cam[1] : box[1];
      box[2] = cam[0] > box[2] ? cam[0] : box[2], box[3] = cam[1] > box[3] ? cam[1] : box[3];
    }
  }
}

}  // namespace face

extern "C" {

const char* face_names(int group) { return group == 0 ? face::kInnerNames : (group == 1 ? face::kOuterNames : face::kNuisanceNames); }

// points: five (x, y) and box: the face's outline extent x0 y0 x1 y1, both in head units before `view`.
void face_geometry(const float* params, float* points, float* box) {
  face::Scene s(*reinterpret_cast<const face::Params*>(params));
  float solid[5][3];
  face::five_points(s, solid);
  for (int k = 0; k < 5; ++k) {
    float cam[3];
    s.pose.to_camera(solid[k], cam);
    points[2 * k] = cam[0], points[2 * k + 1] = cam[1];
  }
  face::face_box(s, box);
}

// view: 2x3, head units from pixels. image: RGB bytes [h][w], drawn over. mask: visible face share [h][w] or null.
void face_draw(const float* params, const float* view, uint8_t* image, uint8_t* mask, int w, int h, const int* region, int ss, int threads) {
  face::Scene s(*reinterpret_cast<const face::Params*>(params));
  const int x0 = region[0], y0 = region[1], x1 = region[2], y1 = region[3];
  if (x1 <= x0 || y1 <= y0) return;
  float px = __builtin_sqrtf(face::sq(view[0]) + face::sq(view[3])) / ss;
  (void)h;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (threads > 1)
  for (int y = y0; y < y1; ++y) {
    const int n = (x1 - x0) * ss;
    std::vector<face::Pixel> rows(static_cast<size_t>(n) * ss);
    for (int k = 0; k < ss; ++k) face::draw_row(s, view, px, ss, y * ss + k, x0, x1, rows.data() + static_cast<size_t>(k) * n);
    for (int x = x0; x < x1; ++x) {
      face::Pixel sum = {0, 0, 0, 0, 0};
      for (int k = 0; k < ss; ++k)
        for (int j = 0; j < ss; ++j) {
          const face::Pixel& q = rows[static_cast<size_t>(k) * n + (x - x0) * ss + j];
          sum.r += q.r, sum.g += q.g, sum.b += q.b, sum.a += q.a, sum.face += q.face;
        }
      const float share = 1.0f / (ss * ss);
      sum = {sum.r * share, sum.g * share, sum.b * share, sum.a * share, sum.face * share};
      uint8_t* at = image + (static_cast<size_t>(y) * w + x) * 3;
      const float behind = 1.0f - sum.a, c[3] = {sum.r, sum.g, sum.b};
      for (int j = 0; j < 3 && sum.a > 0.0f; ++j) at[j] = face::to_byte(face::display(c[j] + behind * face::sq(at[j] * (1.0f / 255.0f))));
      if (mask) {
        uint8_t& m = mask[static_cast<size_t>(y) * w + x];
        m = face::to_byte(sum.face + behind * m * (1.0f / 255.0f));
      }
    }
  }
}

void backdrop_draw(uint32_t seed, int style, uint8_t* image, int w, int h) { face::draw_backdrop(seed, style, image, w, h); }

void film_grain(uint32_t seed, float sigma, float gain, uint8_t* image, int count) { face::grain(seed, sigma, gain, image, count); }
}
