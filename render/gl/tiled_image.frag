// What one pixel of a tile shows. Variants, chosen by #define lines put in front:
//   EXACT            the frame is axis-aligned and its pixels are known; otherwise vispy's transform placed the quad
//   LINEAR           area filter (see sampled); otherwise the texel under the pixel's centre
//   RGB, LABELS      samples of a colour image, bytes of an id; otherwise one value per texel
#extension GL_EXT_gpu_shader4 : enable
#ifdef GL_EXT_gpu_shader4
#define CONSTANT flat varying
#else
#define CONSTANT varying
#endif

uniform sampler2D u_page;
uniform vec2 u_page_px;        // (w, h) of the page, texels
uniform vec4 u_part;           // EXACT: first pixel (x, y) and size (w, h) of this part of the frame
uniform sampler2D u_table;     // colormap, 256 x 1
uniform float u_texel_max;     // the value of a texel that reads 1.0: 255, 65535, or 1 for floats
uniform vec2 u_window;         // low contrast limit, 1 / (high - low)
uniform float u_gamma;
uniform float u_opacity;
uniform float u_samples;       // RGB: samples per texel
uniform vec4 u_nan_color;
uniform vec3 u_aids;           // each 0 or 1: opaque blending, grid, marks

varying vec2 v_local;          // not EXACT: texels from the tile's first texel (x, y)
CONSTANT vec4 v_bounds;        // the tile's own texels in the page: first (x, y), end (x, y)
CONSTANT vec4 v_start;         // EXACT: page texel at the quad's first pixel: whole (x, y), fraction (x, y)
CONSTANT vec4 v_step;          // EXACT: texels per pixel (x, y), leading 12 bits; the rest
CONSTANT vec4 v_mark;          // level; kind: 0 ideal, 1 stand-in, 2 failed, 3 missing; first pixel (x, y)

// Where this pixel's centre lies: page texel = whole + part, 0 <= part, and texels per pixel. The leading 12
// bits of the step times a pixel count are exact in float, so a centre on a texel's edge is never misjudged.
void locate(vec2 pixel, out vec2 whole, out vec2 part, out vec2 width) {
#ifdef EXACT
    vec2 count = pixel - v_mark.zw;
    vec2 leading = count * v_step.xy;
    vec2 steps = floor(leading);
    whole = v_start.xy + steps;
    part = (leading - steps) + (count * v_step.zw + v_start.zw);
    width = v_step.xy;
#else
    whole = v_bounds.xy + floor(v_local);
    part = fract(v_local);
    width = fwidth(v_local);
#endif
}

vec4 texel(vec2 whole) {
    return texture2D(u_page, (whole + 0.5) / u_page_px);
}

#ifdef LINEAR
// Mean over a box around the centre, one pixel wide but at least one texel. At one texel this is bilinear
// interpolation; when a level is minified every texel still counts, so nothing sparkles. The page repeats one
// texel of each neighbour around the tile, which is enough for two texels per pixel.
vec4 sampled(vec2 whole, vec2 part, vec2 width) {
    vec2 size = clamp(width, 1.0, 8.0);
    vec2 low = part - 0.5 * size;
    vec2 high = part + 0.5 * size;
    vec2 first = floor(low);
    vec2 last = ceil(high);
    vec4 sum = vec4(0.0);
    for (float y = first.y; y < last.y; y += 1.0) {
        float weight_y = min(high.y, y + 1.0) - max(low.y, y);
        for (float x = first.x; x < last.x; x += 1.0) {
            vec2 at = clamp(whole + vec2(x, y), v_bounds.xy - 1.0, v_bounds.zw);
            sum += texel(at) * (weight_y * (min(high.x, x + 1.0) - max(low.x, x)));
        }
    }
    return sum / (size.x * size.y);
}
#else
// 2e-6 texels: more than rounding, far less than the eye or any test can tell
vec4 sampled(vec2 whole, vec2 part, vec2 width) {
    return texel(clamp(whole + floor(part + 2e-6), v_bounds.xy, v_bounds.zw - 1.0));
}
#endif

bool is_nan(float value) {
    return !(value <= 0.0 || 0.0 <= value);
}

#ifdef LABELS
// a - b * floor(a / b) and the quotient, exact for whole numbers below 2^24 whatever the division rounds to
vec2 divided(float a, float b) {
    float quotient = floor(a / b);
    float rest = a - b * quotient;
    if (rest < 0.0) { rest += b; quotient -= 1.0; }
    if (rest >= b) { rest -= b; quotient += 1.0; }
    return vec2(quotient, rest);
}

float remainder(vec4 bytes, vec4 factors, float prime) {
    float sum = divided(bytes.x * factors.x, prime).y + divided(bytes.y * factors.y, prime).y
        + divided(bytes.z * factors.z, prime).y + divided(bytes.w * factors.w, prime).y;
    return divided(sum, prime).y;
}

// The same as colors.label_colors, in whole numbers.
vec4 colorized(vec4 value) {
    vec4 bytes = floor(value * 255.0 + 0.5);
    if (dot(bytes, vec4(1.0)) == 0.0) return vec4(0.0);
    vec2 turn = divided(remainder(bytes, HUE_FACTORS, HUE_PRIME) * 6.0, HUE_PRIME);
    float tone = divided(remainder(bytes, TONE_FACTORS, TONE_PRIME) * 8.0, TONE_PRIME).x;
    float high = 255.0 - 28.0 * divided(tone, 4.0).y;
    float low = tone < 4.0 ? 24.0 : 80.0;
    float part = divided(turn.y * 255.0, HUE_PRIME).x;
    float rise = low + divided((high - low) * part, 255.0).x;
    float fall = high + low - rise;
    vec3 rgb;
    if (turn.x < 1.0) rgb = vec3(high, rise, low);
    else if (turn.x < 2.0) rgb = vec3(fall, high, low);
    else if (turn.x < 3.0) rgb = vec3(low, high, rise);
    else if (turn.x < 4.0) rgb = vec3(low, fall, high);
    else if (turn.x < 5.0) rgb = vec3(rise, low, high);
    else rgb = vec3(high, low, fall);
    return vec4(rgb / 255.0, 1.0);
}
#else

float windowed(float value) {
    float x = clamp((value * u_texel_max - u_window.x) * u_window.y, 0.0, 1.0);
    return u_gamma == 1.0 ? x : pow(x, u_gamma);
}

#ifdef RGB
vec4 colorized(vec4 value) {
    if (is_nan(value.x + value.y + value.z)) return u_nan_color;
    float alpha = 1.0;
    if (u_samples == 2.0) { alpha = value.y; value = value.xxxx; }
    if (u_samples == 4.0) alpha = value.w;
    return vec4(windowed(value.x), windowed(value.y), windowed(value.z), clamp(alpha, 0.0, 1.0));
}
#else
vec4 colorized(vec4 value) {
    vec4 color = texture2D(u_table, vec2((windowed(value.x) * 255.0 + 0.5) / 256.0, 0.5));
    return is_nan(value.x) ? u_nan_color : color;
}
#endif
#endif

// Dark red with bright crosses.
vec4 failed_pattern(vec2 pixel) {
    vec2 cell = mod(pixel, 16.0);
    float along = abs(cell.x - cell.y);
    float across = abs(cell.x + cell.y - 15.0);
    bool on = min(min(along, 16.0 - along), min(across, 16.0 - across)) < 1.5;
    return on ? vec4(1.0, 0.25, 0.25, 1.0) : vec4(0.25, 0.0, 0.05, 1.0);
}

vec3 level_color(float level) {
    vec3 phase = mod(vec3(0.0, 2.0, 4.0) + level * 1.7, 6.0);
    return clamp(abs(phase - 3.0) - 1.0, 0.0, 1.0);
}

void main() {
#ifdef EXACT
    vec2 pixel = floor(gl_FragCoord.xy) + u_part.xy;
#else
    vec2 pixel = floor(gl_FragCoord.xy);
#endif
    vec2 whole, part, width;
    locate(pixel, whole, part, width);
    vec4 color = vec4(0.0);
    if (v_mark.y < 1.5) color = colorized(sampled(whole, part, width));
    else if (v_mark.y < 2.5) color = failed_pattern(pixel);

    if (u_aids.z > 0.5 && v_mark.y > 0.5 && v_mark.y != 2.0 && mod(pixel.x + pixel.y, 12.0) < 2.0)
        color = vec4(1.0, 0.75, 0.0, 1.0);
    if (u_aids.y > 0.5 && v_mark.y < 1.5) {
        vec2 at = whole + part;
        vec2 inside = min(at - v_bounds.xy, v_bounds.zw - at) / width;
        if (min(inside.x, inside.y) < 1.0) color = vec4(level_color(v_mark.x), 1.0);
    }

    float alpha = color.a * u_opacity;
    if (u_aids.x > 0.5) {
        if (color.a == 0.0) discard;
        alpha = 1.0;
    }
    gl_FragColor = vec4(color.rgb * alpha, alpha);
}
