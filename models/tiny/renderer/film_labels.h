// Landmarks and box of a face, from the same curves that the painters use: 5, 68 (iBUG's order) or 98 (WFLW's order).
#pragma once

#include "film_scene.h"

namespace film {

// The first surface point below (x, y) when one looks at the head from the front.
static inline Vec front_point(const Scene& s, float x, float y) {
  const float ray[3] = {0, 0, -1};
  face::Hit h = face::march(s.head, {splat(x), splat(y), splat(1.7f)}, ray, splat(0.0f), splat(3.2f), 0.001f);
  return {x, y, h.p.z[0]};
}
// Where a ray from the middle of the head leaves its skin; azimuth 0 is forward, elevation > 0 is down.
static inline Vec outward(const Scene& s, float azimuth_deg, float elevation_deg) {
  float a = azimuth_deg * kDegree, e = elevation_deg * kDegree;
  Vec d = {__builtin_sinf(a) * __builtin_cosf(e), __builtin_sinf(e), __builtin_cosf(a) * __builtin_cosf(e)};
  float t = 2.4f;
  for (int i = 0; i < 24; ++i) t -= 0.9f * s.head.distance({splat(d.x * t), splat(0.25f + d.y * t), splat(d.z * t - 0.1f)})[0];
  return {d.x * t, 0.25f + d.y * t, d.z * t - 0.1f};
}
// The jaw's line from the image's left ear (-1) over the chin (0) to the right ear (1).
static inline Vec jaw_point(const Scene& s, float along) {
  float k = fabsf_(along), rest = 1.0f - k, az = 76.0f * (1.0f - rest * rest), el = 63.0f - 71.0f * k * __builtin_sqrtf(k);
  return outward(s, along < 0.0f ? -az : az, el);
}

class Landmarks {
 public:
  explicit Landmarks(const Scene& scene) : s(scene) {}
  Vec found[98];
  int count = 0;

  void five() {
    add(-s.at.eye_x, 0.0f), add(s.at.eye_x, 0.0f), add(0.0f, s.at.nose_y - 0.02f);
    add(-s.at.mouth_w, s.at.seam(1.0f)), add(s.at.mouth_w, s.at.seam(1.0f));
  }
  void sixty_eight() {
    jaw(17);
    for (int side = -1; side <= 1; side += 2) brow_line(side, 5, false);
    bridge(4), base(5);
    for (int side = -1; side <= 1; side += 2) eye(side, 2);
    lips(5, false), lips(3, true);
  }
  void ninety_eight() {
    jaw(33);
    brow_line(-1, 5, false), brow_lower(-1), brow_line(1, 5, false), brow_lower(1);
    bridge(4), base(5);
    for (int side = -1; side <= 1; side += 2) eye(side, 3);
    lips(5, false), lips(3, true);
    for (int side = -1; side <= 1; side += 2) pupil(side);
  }

 private:
  const Scene& s;

  void add(float x, float y) { found[count++] = front_point(s, x, y); }
  void jaw(int n) {
    for (int i = 0; i < n; ++i) found[count++] = jaw_point(s, -1.0f + 2.0f * i / (n - 1));
  }
  // From the image's left to its right; on the left half that is from the outer to the inner end.
  void brow_line(int side, int n, bool low) {
    for (int i = 0; i < n; ++i) {
      float k = -0.92f + 1.84f * i / (n - 1), u = side < 0 ? -k : k, half = s.at.brow_half(u) * (low ? 1.0f : -1.0f);
      add(side * s.at.brow_x(u), s.at.brow_middle(u) + half);
    }
  }
  void brow_lower(int side) {  // four points back along the lower edge
    for (int i = 0; i < 4; ++i) {
      float k = 0.55f - 1.10f * i / 3, u = side < 0 ? -k : k;
      add(side * s.at.brow_x(u), s.at.brow_middle(u) + s.at.brow_half(u));
    }
  }
  void bridge(int n) {
    for (int i = 0; i < n; ++i) add(0.0f, 0.02f + (s.at.nose_y - 0.04f) * i / (n - 1));
  }
  void base(int n) {
    for (int i = 0; i < n; ++i) {
      float k = -1.0f + 2.0f * i / (n - 1);
      add(k * s.at.nose_w * 0.80f, s.at.nose_y + 0.115f - 0.045f * k * k);
    }
  }
  void eye_point(int side, float u, bool up) {
    float v = up ? s.at.lid_up(u) : s.at.lid_low(u), a = u * s.at.eye_w, c = s.at.tilt_c, n = s.at.tilt_s, q = 1.0f / (c * c + n * n);
    add(side * (s.at.eye_x + (c * a + n * v) * q), (c * v - n * a) * q);
  }
  // Corner on the image's left, over the upper lid to the other corner, back along the lower one.
  void eye(int side, int between) {
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i <= between; ++i) {
        float k = -1.0f + 2.0f * i / (between + 1), way = half == 0 ? k : -k;
        eye_point(side, side < 0 ? -way : way, half == 0);
      }
  }
  void lips(int between, bool inner) {
    const float reach = inner ? 0.88f : 1.0f;
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i <= between; ++i) {
        float k = (-1.0f + 2.0f * i / (between + 1)) * (half == 0 ? reach : -reach);
        float y = half == 0 ? (inner ? s.at.lip_up_in(k) : s.at.lip_up_out(k)) : (inner ? s.at.lip_low_in(k) : s.at.lip_low_out(k));
        add(k * s.at.mouth_w, y);
      }
  }
  void pupil(int side) {
    Vec g = s.eyes.look(side);
    found[count++] = Vec{side * s.at.eye_x, 0.0f, s.at.eye_z} + g * s.at.ball;
  }
};

// The face below the hairline, seen from the camera.
static inline void face_box(const Scene& s, float box[4]) {
  box[0] = box[1] = 1e9f, box[2] = box[3] = -1e9f;
  for (int row = 0; row < 9; ++row)
    for (int i = 0; i < 16; ++i) {
      Vec cam = s.pose.to_camera(outward(s, -70.5f + i * 9.4f, -43.0f + row * 13.5f));
      box[0] = cam.x < box[0] ? cam.x : box[0], box[1] = cam.y < box[1] ? cam.y : box[1];
      box[2] = cam.x > box[2] ? cam.x : box[2], box[3] = cam.y > box[3] ? cam.y : box[3];
    }
}

// Writes `count` points and the box; false for a count that nobody defined.
static inline bool geometry(const Scene& s, int count, float* points, float* box) {
  Landmarks marks(s);
  if (count == 5) marks.five();
  else if (count == 68) marks.sixty_eight();
  else if (count == 98) marks.ninety_eight();
  else return false;
  for (int k = 0; k < count; ++k) {
    Vec cam = s.pose.to_camera(marks.found[k]);
    points[2 * k] = cam.x, points[2 * k + 1] = cam.y;
  }
  face_box(s, box);
  return true;
}

}  // namespace film
