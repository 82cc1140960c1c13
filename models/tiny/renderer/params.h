// The parameters of one drawn person, in the order of the float array that Python passes. Python asks for this list.
#pragma once

// clang-format off
// INNER is who it is (what a swap moves). OUTER stays with the target. NUISANCE is the moment: pose, mouth, light.
#define FACE_INNER(X) \
  X(skin_tone) X(skin_hue) X(eye_hue) X(eye_light) X(eye_size) X(eye_spacing) X(eye_tilt) X(eye_round) X(lash) \
  X(brow_thick) X(brow_tilt) X(brow_light) X(brow_height) X(brow_arch) X(nose_width) X(nose_length) X(nose_tip) \
  X(lip_full) X(lip_width) X(lip_hue) X(freckles) X(mole) X(mole_place) X(beard) X(moustache) X(blush)
#define FACE_OUTER(X) \
  X(face_width) X(jaw_width) X(chin_length) X(ear_size) X(hair_amount) X(hair_length) X(hair_volume) X(hairline) \
  X(hair_part) X(hair_curl) X(hair_bun) X(hair_r) X(hair_g) X(hair_b) X(hat) X(hat_r) X(hat_g) X(hat_b) \
  X(cloth_r) X(cloth_g) X(cloth_b) X(collar) X(neck_tone) X(neck_hue)
#define FACE_NUISANCE(X) \
  X(yaw) X(pitch) X(roll) X(open) X(wide) X(smile) X(blink) X(gaze_x) X(gaze_y) X(brow_raise) \
  X(light_x) X(light_y) X(light_gain) X(ambient) X(warmth) \
  X(glasses) X(glasses_shape) X(glasses_r) X(glasses_g) X(glasses_b) \
  X(occluder) X(occluder_x) X(occluder_y) X(occluder_angle) X(occluder_size) X(occluder_r) X(occluder_g) X(occluder_b)
// clang-format on

namespace face {

struct Params {
#define X(name) float name;
  FACE_INNER(X) FACE_OUTER(X) FACE_NUISANCE(X)
#undef X
};

#define X(name) #name ","
static const char* const kInnerNames = FACE_INNER(X);
static const char* const kOuterNames = FACE_OUTER(X);
static const char* const kNuisanceNames = FACE_NUISANCE(X);
#undef X

}  // namespace face
