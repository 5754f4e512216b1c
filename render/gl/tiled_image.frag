// What one pixel of a tile shows. Kept lean: with a software rasteriser each line here is a tenth of a
// millisecond per megapixel. Variants, chosen by #define lines put in front (colored.py); EXACT is explained in tiled_image.vert:
//   LINEAR        area filter instead of the texel under the pixel's centre
//   RGB, LABELS   samples of a colour image, bytes of an id; otherwise one value per texel
//   TABLE         colours from a table; otherwise plain gray
//   GAMMA         RGB only; for values it is part of the table
//   FLOAT         texels may be NaN
//   OPACITY       opacity below 1
//   OPAQUE        nothing below shows through, except where there is nothing (label 0)
#extension GL_EXT_gpu_shader4 : enable
#ifdef GL_EXT_gpu_shader4
#define CONSTANT flat varying
#ifdef EXACT  // saves a division per pixel
#define LINEAR_IN_FRAME noperspective varying
#else
#define LINEAR_IN_FRAME varying
#endif
#else
#define CONSTANT varying
#define LINEAR_IN_FRAME varying
#endif

uniform sampler2D u_page;
uniform sampler2D u_table;     // TABLE: TABLE_SIZE x 1 colours, by the root of the value
uniform float u_gamma;
uniform float u_opacity;
uniform float u_samples;       // RGB: samples per texel
uniform vec4 u_nan_color;
LINEAR_IN_FRAME vec2 v_local;          // texels from the tile's corner (x, y)
CONSTANT vec4 v_tile;          // the tile's first texel in the page (x, y), its size (w, h)
CONSTANT vec4 v_uniforms;      // u_texel, u_window: of uniforms, a software rasteriser would ask again for each pixel

// The texel of this number (x, y), which is whole: its centre is read, far from any rounding. With a software
// rasteriser a texelFetch takes twice as long.
vec4 texel(vec2 at) {
    return texture2D(u_page, (at + 0.5) * v_uniforms.xy);
}

#ifdef LINEAR
vec4 weighed(float weight, vec2 at) {
#ifdef FLOAT
    if (weight < 0.0002) return vec4(0.0);  // next to nothing, as positions are rounded, times NaN is NaN
#endif
    return weight * texel(at);
}

// Mean over a box around the centre, one pixel wide but at least one texel. At one texel this is bilinear
// interpolation; when a level is minified every texel still counts, so nothing sparkles. The page repeats one
// texel of each neighbour around the tile, which is enough for two texels per pixel.
// The first two texels each way are written out: magnified, they are all there is.
vec4 sampled() {
    vec2 size = clamp(fwidth(v_local), 1.0, 8.0);
    vec2 low = v_local - 0.5 * size;
    vec2 high = low + size;
    vec2 first = floor(low);
    vec2 count = ceil(high) - first;
    vec2 weight0 = first + 1.0 - low;
    vec2 weight1 = clamp(high - first - 1.0, 0.0, 1.0);
    vec2 at0 = v_tile.xy + clamp(first, vec2(-1.0), v_tile.zw);
    vec2 at1 = v_tile.xy + clamp(first + 1.0, vec2(-1.0), v_tile.zw);
    vec4 sum = weighed(weight0.y * weight0.x, at0) + weighed(weight0.y * weight1.x, vec2(at1.x, at0.y))
        + weighed(weight1.y * weight0.x, vec2(at0.x, at1.y)) + weighed(weight1.y * weight1.x, at1);
    for (float y = count.x > 2.0 ? 0.0 : 2.0; y < count.y; y += 1.0) {
        float weight_y = y < 1.0 ? weight0.y : clamp(high.y - first.y - y, 0.0, 1.0);
        float row = v_tile.y + clamp(first.y + y, -1.0, v_tile.w);
        for (float x = y < 2.0 ? 2.0 : 0.0; x < count.x; x += 1.0) {
            float weight = weight_y * (x < 1.0 ? weight0.x : clamp(high.x - first.x - x, 0.0, 1.0));
            sum += weighed(weight, vec2(v_tile.x + clamp(first.x + x, -1.0, v_tile.z), row));
        }
    }
    return sum / (size.x * size.y);
}
#else
vec4 sampled() {
    return texel(v_tile.xy + floor(clamp(v_local, vec2(0.0), v_tile.zw - 0.5)));
}
#endif

#ifdef LABELS
// Quotient and rest, exact for whole numbers below 2^24 whatever the division rounds to.
vec2 divided(float a, float b) {
    float quotient = floor(a * (1.0 / b));
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
vec4 colored(vec4 value) {
    vec4 bytes = floor(value * 255.0 + 0.5);
    if (bytes == vec4(0.0)) return vec4(0.0);
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
#ifdef RGB
vec4 colored(vec4 value) {
    float alpha = 1.0;
    if (u_samples == 2.0) { alpha = value.y; value = value.xxxx; }
    if (u_samples == 4.0) alpha = clamp(value.w, 0.0, 1.0);
    vec3 rgb = clamp((value.xyz - v_uniforms.z) * v_uniforms.w, 0.0, 1.0);
#ifdef GAMMA
    rgb = pow(rgb, vec3(u_gamma));
#endif
    return vec4(rgb, alpha);
}
#else
vec4 colored(vec4 value) {
    float x = (value.x - v_uniforms.z) * v_uniforms.w;
#ifdef TABLE
    float place = sqrt(clamp(x, 0.0, 1.0)) * (TABLE_SIZE - 1.0) + 0.5;
    return texture2D(u_table, vec2((floor(place) + 0.5) / TABLE_SIZE, 0.5));
#else
    return vec4(x, x, x, 1.0);  // one value to convert to a byte, not four; OpenGL itself cuts it to 0 to 1
#endif
}
#endif
#endif

void main() {
    vec4 value = sampled();
    vec4 color = colored(value);
#ifdef FLOAT
    float sum = value.x + value.y + value.z;
    if (!(sum <= 0.0 || 0.0 <= sum)) color = u_nan_color;
#endif
#ifdef OPAQUE
    if (color.a == 0.0) discard;
    gl_FragColor = vec4(color.rgb, 1.0);
#elif defined(OPACITY)
    gl_FragColor = vec4(color.rgb, color.a * u_opacity);
#else
    gl_FragColor = color;
#endif
}
