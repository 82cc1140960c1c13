// The solids of a person: head, hair (or hat) and body, as signed distances. Unit: half the width of an average head.
// Axes of the head: x to the image's right, y down, z towards the viewer; the origin lies between the eyes, inside.
#pragma once

#include "packet.h"
#include "params.h"

namespace face {

// Where features sit on the face; shared by the solids, the painter and the five points.
struct Layout {
  float eye_x, eye_w, eye_h, iris;        // eye centre (mirrored), half width, half height, iris radius
  float brow_y, nose_y, nose_w;           // brow height, nose tip height, nose half width
  float mouth_y, mouth_w, lift, gap;      // mouth centre, half width, rise of the corners, opening
  float upper, lower, drop;               // lip heights, how far the chin drops
  explicit Layout(const Params& p) {
    eye_x = 0.415f + 0.045f * p.eye_spacing;
    eye_w = 0.205f * (1.0f + 0.16f * p.eye_size);
    eye_h = 0.108f * (1.0f + 0.16f * p.eye_size) * (1.0f + 0.26f * p.eye_round);
    iris = 0.106f * (1.0f + 0.12f * p.eye_size);
    brow_y = -0.285f - 0.055f * p.brow_height - 0.075f * p.brow_raise;
    nose_y = 0.47f + 0.075f * p.nose_length;
    nose_w = 0.165f * (1.0f + 0.32f * p.nose_width);
    mouth_y = 0.945f + 0.03f * p.nose_length;
    mouth_w = 0.335f * (1.0f + 0.17f * p.lip_width) * (1.0f + 0.17f * p.wide + 0.10f * p.smile - 0.06f * p.open);
    lift = 0.105f * p.smile;
    gap = 0.34f * p.open;
    upper = 0.082f * (1.0f + 0.42f * p.lip_full);
    lower = 0.112f * (1.0f + 0.42f * p.lip_full);
    drop = 0.20f * p.open;
  }
};

struct Head {
  Ellipsoid skull, cheekbone, jaw, chin, cheek, ridge, socket, eyeball, wing, lips, ear;
  Cone nose;
  Head(const Params& p, const Layout& at) {
    float w = 1.0f + 0.06f * p.face_width, j = 1.0f + 0.11f * p.jaw_width, c = 0.07f * p.chin_length + at.drop;
    skull = {0.0f, -0.42f, -0.22f, 0.96f * w, 0.98f, 1.10f};
    cheekbone = {0.0f, 0.16f, 0.00f, 0.86f * w, 0.85f, 0.86f};
    jaw = {0.0f, 0.56f + 0.5f * c, 0.10f, 0.73f * w * j, 0.86f + 0.5f * c, 0.70f};
    chin = {0.0f, 1.26f + c, 0.47f, 0.27f * j, 0.20f, 0.26f};
    cheek = {0.42f, 0.48f, 0.52f, 0.27f, 0.27f, 0.26f};
    ridge = {0.36f, at.brow_y + 0.05f, 0.68f, 0.30f, 0.09f, 0.14f};
    socket = {at.eye_x, 0.0f, 1.02f, 0.24f, 0.17f, 0.22f};
    eyeball = {at.eye_x, 0.01f, 0.60f, at.eye_w * 1.1f, at.eye_h * 1.7f, 0.225f};
    float tip = 0.098f * (1.0f + 0.22f * p.nose_tip + 0.15f * p.nose_width);
    nose = {0.0f, 0.02f, 0.76f, 0.0f, at.nose_y - 0.03f, 1.06f + 0.05f * p.nose_tip, 0.062f, tip};
    wing = {at.nose_w * 0.62f, at.nose_y + 0.030f, 0.93f, at.nose_w * 0.46f, 0.070f, 0.11f};
    lips = {0.0f, at.mouth_y + 0.02f + 0.3f * at.gap, 0.72f, at.mouth_w * 0.95f, 0.20f + 0.4f * at.gap, 0.16f};
    float e = 1.0f + 0.28f * p.ear_size;
    ear = {0.95f * w, 0.14f, -0.18f, 0.10f, 0.27f * e, 0.17f * e};
  }
  Pack distance(const Points& p) const {
    Points side = {absolute(p.x), p.y, p.z};
    Pack d = blend_min(skull.distance(p), cheekbone.distance(p), 0.30f);
    d = blend_min(d, jaw.distance(p), 0.30f);
    d = blend_min(d, chin.distance(p), 0.22f);
    d = blend_min(d, cheek.distance(side), 0.26f);
    d = blend_min(d, ridge.distance(side), 0.16f);
    d = blend_max(d, -socket.distance(side), 0.12f);
    d = blend_min(d, eyeball.distance(side), 0.05f);
    d = blend_min(d, lips.distance(p), 0.14f);
    d = blend_min(d, nose.distance(p), 0.13f);
    d = blend_min(d, wing.distance(side), 0.11f);
    return blend_min(d, ear.distance(side), 0.06f);
  }
};

// A smooth wave with period 4 and range [-1, 1], made of parabolas; cheap in packets.
static inline Pack wave(Pack x) {
  x = x * 0.25f;
  Pack whole;
  for (int i = 0; i < kLanes; ++i) whole[i] = __builtin_floorf(x[i]);
  Pack f = (x - whole) * 4.0f - 2.0f;  // -2 .. 2
  return f * (2.0f - absolute(f));
}

// Hair is a shell round the skull with the face cut out of it; a hat is a shell cut by a plane above the brows.
struct Hair {
  Ellipsoid cap, back, bun, face_cut;
  bool has_bun, hat;
  float end_y, curl;
  Hair(const Params& p, const Head&) : has_bun(p.hair_bun > 0.5f && p.hat < 0.5f), hat(p.hat > 0.5f) {
    float w = 1.0f + 0.06f * p.face_width, v = 0.055f + 0.055f * (p.hair_volume + 1.0f);
    float longer = 0.5f * (p.hair_length + 1.0f);
    if (hat) v = 0.16f;
    cap = {0.0f, -0.44f - 0.5f * v, -0.22f, 0.97f * w + v, 1.0f + v, 1.11f + v};
    back = {0.0f, 0.15f + 0.75f * longer, -0.50f, 0.93f * w + 0.6f * v + 0.10f * longer, 0.75f + 0.80f * longer, 0.62f};
    bun = {0.0f, -1.55f - v, -0.35f, 0.36f, 0.32f, 0.36f};
    float line = 0.13f * p.hairline;
    face_cut = {0.12f * p.hair_part, 0.50f - line, 1.12f, 0.885f * w - 0.3f * (v - 0.055f) * longer, 1.22f, 1.05f};
    end_y = hat ? -0.44f : 0.05f + 2.0f * longer;
    curl = hat ? 0.0f : 0.045f * p.hair_curl;
  }
  Pack distance(const Points& p) const {
    Pack d = cap.distance(p);
    if (hat) return blend_max(d, p.y * 0.97f + p.z * 0.16f - end_y, 0.05f);
    d = blend_min(d, back.distance(p), 0.18f);
    d = blend_max(d, -face_cut.distance(p), 0.06f);
    d = blend_max(d, p.y - end_y, 0.12f);
    if (has_bun) d = blend_min(d, bun.distance(p), 0.10f);
    if (curl > 0.001f) d += curl * wave(p.x * 9.0f) * wave(p.y * 9.0f + 1.0f) * wave(p.z * 9.0f);
    return d;
  }
};

struct Body {
  Cone neck;
  Ellipsoid torso;
  explicit Body(const Params& p) {
    float w = 1.0f + 0.06f * p.face_width;
    neck = {0.0f, 0.75f, -0.32f, 0.0f, 2.1f, -0.45f, 0.50f * w, 0.50f * w};
    torso = {0.0f, 3.05f, -0.50f, 1.85f, 1.10f, 0.72f};
  }
  Pack distance(const Points& p) const { return blend_min(neck.distance(p), torso.distance(p), 0.42f); }
};

}  // namespace face
