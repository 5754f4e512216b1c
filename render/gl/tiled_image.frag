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

#define WINDOW v_uniforms.zw
#include colored.frag

void main() {
    vec4 value = sampled();
    show(colored(value), value);
}
