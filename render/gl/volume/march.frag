// One ray through cells (render/view/volume/cells.py), from sample to sample (sight.py says where these lie). Inside of a
// cell all samples are of one brick; a box owns sample k when ceil(t_near - 1/2) <= k < ceil(t_far - 1/2) on each axis,
// so that boxes that are disjoint own disjoint samples. Variants, chosen by #define lines put in front (march.py):
//   MIP MINIP MEAN ATTENUATED ALPHA ISO COUNT   the mode
//   PLAIN         ALPHA: gray, and steps of one unit: a quarter faster than a table
//   STRIDE        bricks that are coarser than wanted take only every so many-th sample
//   PLANES        planes of it, and not all of it: planes.frag
//   DEPTH         how deep the first thing lies that hides what is behind it, and no colour (ISO, PLANES)
//   STOPS         nothing is seen behind what other layers show
//   EDGES         some bricks must not be looked at beyond some of their faces
//   the others    as in tiled_image.frag
uniform sampler3D u_page;
uniform sampler3D u_cells;     // 0 nothing, else 1 + row; what the row is (tables.py): of 65535
uniform sampler2D u_planes;    // rows x, y, z: where cells end
uniform sampler2D u_rows;      // four each: offset, the value that decides whether to look (COUNT: class); where in the page; EDGES: least, most
uniform vec3 u_texel;          // of the page, where the whole page is 1
uniform vec3 u_counts;         // cells along x, y, z
uniform vec3 u_cells_texel;
uniform vec2 u_planes_texel;
uniform vec2 u_rows_texel;
uniform float u_rows_high;
uniform float u_half;          // the largest power of two below the most cells along an axis
uniform vec3 u_first;          // the outermost planes
uniform vec3 u_last;
uniform vec3 u_origin;
uniform vec3 u_across;
uniform vec3 u_down;
uniform vec3 u_step;
uniform vec3 u_step_across;
uniform vec3 u_step_down;
uniform vec2 u_range;          // the first sample that exists, and the one after the last
uniform vec4 u_frame;          // pixel of the frame = xy + zw * pixel of the framebuffer
uniform vec2 u_window;
uniform vec2 u_bounds;         // lowest and highest value that anything that is drawn can show
uniform vec2 u_limits;         // of contrast, ascending: what lies beyond them looks as they do
uniform float u_step_world;
uniform float u_attenuation;   // ATTENUATED: per step
uniform float u_threshold;     // ISO
uniform vec3 u_world;          // ISO: world size of a base voxel
uniform vec4 u_surface;        // ISO: colour
uniform float u_sample_alpha;  // LABELS, ALPHA: of one sample
uniform sampler2D u_transfer;  // ALPHA: TABLE_SIZE x 1, what one sample adds, premultiplied
uniform vec2 u_classes;        // COUNT: the first class that is counted, and how many samples one half of a number holds
uniform float u_depth;         // of the origins, world units
uniform sampler2D u_surfaces;  // STOPS: how deep what hides them lies, pixel by pixel of the framebuffer
uniform vec2 u_surfaces_texel;
#ifndef COUNT
uniform vec3 u_scales[32];      // texels per unit; vispy knows no constant there: MOST_SCALES
#endif
#define WINDOW u_window
#include colored.frag

#ifdef LABELS
#define SAMPLES vec4
#elif defined(RGB)
#define SAMPLES vec4
#else
#define SAMPLES float
#endif

// Sample i of a ray through a brick, the same as texel() there.
#if defined(LABELS) || defined(RGB)
#define FETCH(place) texture3D(u_page, place)
#else
#define FETCH(place) texture3D(u_page, place).r
#endif
#if defined(LINEAR) && defined(EDGES)
#define SAMPLE(i) FETCH(clamp(po + (i + 0.5) * pd, least_place, most_place))
#elif defined(LINEAR)
#define SAMPLE(i) FETCH(po + (i + 0.5) * pd)
#else
#define SAMPLE(i) FETCH((floor(po + (i + 0.5) * pd) + middle) * u_texel)
#endif

// A position is in texels of the page. The nearest texel is chosen in the brick, before the slot is added: it is the same one
// wherever in the page that lies.
SAMPLES texel(vec3 at, vec3 slot, vec3 least, vec3 most) {
#ifdef EDGES
    at = clamp(at, least, most);
#endif
#ifdef LINEAR
    vec3 place = at * u_texel;
#else
    vec3 place = (slot + (floor(at) + 0.5)) * u_texel;
#endif
    return FETCH(place);
}

#ifdef LABELS
float brightness(vec4 value) {
    return value.x + value.y + value.z + value.w;
}
#elif defined(RGB)
// Modes that compare values compare this.
float brightness(vec4 value) {
    if (u_samples == 2.0) return value.x * clamp(value.y, 0.0, 1.0);
    float light = dot(value.xyz, vec3(0.2126, 0.7152, 0.0722));
    return u_samples == 4.0 ? light * clamp(value.w, 0.0, 1.0) : light;
}
#else
float brightness(float value) {
    return value;
}
#endif

// Whether it is a number: a compiler may take x == x for granted.
bool is_number(float value) {
#ifdef FLOAT
    return value <= 0.0 || 0.0 <= value;
#else
    return true;
#endif
}

float windowed(float value) {
    return clamp((value - WINDOW.x) * WINDOW.y, 0.0, 1.0);
}

// At which sample the ray leaves behind plane number t, counted in its own direction, along each axis.
vec3 crossing(vec3 t, vec3 o, vec3 inverse, vec3 up) {
    vec3 at = (mix(u_counts - t, t, up) + 0.5) * u_planes_texel.x;
    vec3 plane = vec3(
        texture2D(u_planes, vec2(at.x, 0.5 * u_planes_texel.y)).r,
        texture2D(u_planes, vec2(at.y, 1.5 * u_planes_texel.y)).r,
        texture2D(u_planes, vec2(at.z, 2.5 * u_planes_texel.y)).r);
    return ceil((plane - o) * inverse - 0.5);
}

vec4 row_texel(float row, float number) {
    float block = floor(row / u_rows_high);
    return texture2D(u_rows, vec2(4.0 * block + number + 0.5, row - block * u_rows_high + 0.5) * u_rows_texel);
}

#ifndef COUNT
// What a cell holds, by the second number of its entry.
struct Look {
    vec3 scale;
    float stride;
    bool is_even;              // all of it is one value
    bool has_nan;
    bool has_value;            // another than NaN
};

Look look_of(float code) {
    Look look;
    look.stride = 1.0;
#ifdef STRIDE
    look.stride = max(floor(code / LOOK_STRIDE), 1.0);
    code = mod(code, LOOK_STRIDE);
#endif
    float number = floor(code / LOOK_SCALE);
    float flags = code - number * LOOK_SCALE;
    look.scale = u_scales[int(number)];
    look.is_even = mod(flags, 2.0) >= 1.0;
    look.has_nan = false;
    look.has_value = true;
#ifdef FLOAT
    look.has_nan = mod(flags, 4.0) >= 2.0;
    look.has_value = flags >= 4.0;
#endif
    return look;
}

// Where the brick of a row lies in the page, for the nearest texel; positions between texels have it in them.
vec3 slot_of(float row) {
#ifdef LINEAR
    return vec3(0.0);
#else
    return row_texel(row, 1.0).xyz;
#endif
}
#endif

#ifdef ISO
// A headlight on the surface that differences over one texel describe: half a texel each way reaches no further than the
// gutter.
float lit(vec3 at, vec3 slot, vec3 least, vec3 most, vec3 scale, vec3 d) {
    const vec2 by = vec2(0.5, 0.0);
    vec3 slope = vec3(
        brightness(texel(at + by.xyy, slot, least, most)) - brightness(texel(at - by.xyy, slot, least, most)),
        brightness(texel(at + by.yxy, slot, least, most)) - brightness(texel(at - by.yxy, slot, least, most)),
        brightness(texel(at + by.yyx, slot, least, most)) - brightness(texel(at - by.yyx, slot, least, most))) * scale / u_world;
    float steepness = dot(slope, slope);
    if (!(steepness > 0.0) || steepness > 1e30) return 1.0;
    return 0.2 + 0.8 * abs(dot(slope * inversesqrt(steepness), normalize(d * u_world)));
}
#endif

// At which step the ray is so deep.
float step_at(float depth) {
    return (depth - u_depth) / u_step_world;
}

#ifdef STOPS
// The step at which something else hides what lies behind it. What lies in the same place is seen.
float stops_at() {
    return step_at(texture2D(u_surfaces, gl_FragCoord.xy * u_surfaces_texel).r) + 0.01;
}
#endif

// Something at this step hides all that lies behind it.
void surface_at(float at) {
#ifdef STOPS
    if (at > stops_at()) discard;
#endif
#ifdef DEPTH
    gl_FragColor = vec4(u_depth + at * u_step_world);
#endif
}

#ifdef PLANES
#include volume/planes.frag
#else
void main() {
    vec2 pixel = u_frame.xy + gl_FragCoord.xy * u_frame.zw;
    vec3 o = u_origin + pixel.x * u_across + pixel.y * u_down;
    vec3 d = u_step + pixel.x * u_step_across + pixel.y * u_step_down;
    d = mix(d, vec3(1e-12), vec3(lessThan(abs(d), vec3(1e-12))));
    vec3 inverse = 1.0 / d;
    vec3 up = step(0.0, d);
    vec3 first = ceil((u_first - o) * inverse - 0.5);
    vec3 last = ceil((u_last - o) * inverse - 0.5);
    vec3 near = min(first, last);
    vec3 far = max(first, last);
    float at = max(max(max(near.x, near.y), near.z), u_range.x);
    float stop = min(min(min(far.x, far.y), far.z), u_range.y);
#ifdef STOPS
    stop = min(stop, ceil(stops_at() - 0.5));
#endif
    if (!(at < stop)) discard;

    bool some = false;         // a value was met: not nothing, nor NaN
    float nans = 0.0;
#ifdef MINIP
    float best = 1.0 / 0.0;
#elif defined(ATTENUATED) && defined(RGB)
    float best = -1.0;         // a sample without light has a colour, too
#elif defined(ATTENUATED)
    float best = 0.0;
#else
    float best = -1.0 / 0.0;
#endif
    SAMPLES shown = SAMPLES(0.0);
    float thickness = 0.0;     // ATTENUATED: what was passed
    float light = 1.0;         // ISO, ATTENUATED
    float hit = 0.0;           // ISO: the sample
    vec3 hit_offset, hit_scale, hit_slot, hit_least, hit_most;
    vec4 sum = vec4(0.0);      // MEAN, ALPHA (premultiplied), COUNT
    float count = 0.0;         // MEAN
    bool done = false;

    // the cell in which the first sample lies, by halves
    vec3 j = vec3(0.0);
    for (float half_way = u_half; half_way >= 1.0; half_way *= 0.5) {
        vec3 t = j + half_way;
        vec3 k = crossing(min(t, u_counts), o, inverse, up);
        j = mix(j, t, vec3(lessThanEqual(k, vec3(at))) * vec3(lessThan(t, u_counts)));
    }
    vec3 leaves, offset, scale, slot, least, most;
    float to = at;
    float begin = at;
    float stride = 1.0;
    while (at < stop && !done) {
#ifndef COUNT
        // a software rasteriser enters every branch, and leaves only loops: first to a brick that matters, then through it
        bool wanted = false;
        while (!wanted && at < stop) {
#endif
            leaves = crossing(j + 1.0, o, inverse, up);
            to = min(min(min(leaves.x, leaves.y), leaves.z), stop);
            vec3 cell = mix(u_counts - 1.0 - j, j, up);
            vec2 entry = floor(texture3D(u_cells, (cell + 0.5) * u_cells_texel).rg * 65535.0 + 0.5);
            float row = max(entry.x - 1.0, 0.0);
            bool is_inside = entry.x > 0.0 && to > at;
#ifdef COUNT
            float number = row_texel(row, 0.0).w - u_classes.x;
            float weight = number < 4.0 ? 1.0 : number < 8.0 ? u_classes.y : 0.0;
            if (is_inside) sum += vec4(equal(vec4(0.0, 1.0, 2.0, 3.0), vec4(mod(number, 4.0))))
                * ((to - at) * weight * step(0.0, number));
#else
            vec4 r0 = row_texel(row, 0.0);
            Look look = look_of(entry.y);
            float outermost = r0.w;
            begin = at;
            bool has_nan = is_inside && look.has_nan;
#ifdef FLOAT
            if (has_nan) nans += 1.0;
#endif
#ifdef STRIDE
            stride = look.stride;
            begin = ceil(at / stride) * stride;
#endif
            is_inside = is_inside && begin < to && look.has_value;
            // whether something of this brick could change the pixel
#if defined(LABELS)
            wanted = is_inside && outermost > 0.0;
#elif defined(MIP)
            wanted = is_inside && (outermost > max(best, u_limits.x) || (has_nan && !some));
            if (is_inside && !wanted && !some) { some = true; best = outermost; }  // looks like any other below the limits
#elif defined(MINIP)
            wanted = is_inside && (outermost < min(best, u_limits.y) || (has_nan && !some));
            if (is_inside && !wanted && !some) { some = true; best = outermost; }
#elif defined(MEAN) || (defined(ATTENUATED) && defined(RGB))
            wanted = is_inside;
#elif defined(ISO)
            wanted = is_inside && outermost >= u_threshold;
#else
            wanted = is_inside && (has_nan || windowed(outermost) > 0.0);
            some = some || (is_inside && !has_nan);
#endif
#if (defined(MIP) || defined(MINIP) || defined(MEAN)) && !defined(RGB) && !defined(LABELS)
            if (wanted && look.is_even) {
                some = true;
                wanted = false;
#ifdef MEAN
                float samples = ceil((to - begin) / stride) * stride;
                sum.x += samples * outermost;
                count += samples;
#else
                best = outermost;
#endif
            }
#endif
            offset = r0.xyz;
            scale = look.scale;
            slot = slot_of(row);
#ifdef EDGES
            least = row_texel(row, 2.0).xyz;
            most = row_texel(row, 3.0).xyz;
#endif
            if (!wanted) {
                j += vec3(lessThanEqual(leaves, vec3(to)));
                at = to;
                begin = to;
            }
        }
#ifdef LINEAR
        vec3 po = (o * scale + offset) * u_texel;
        vec3 pd = d * scale * u_texel;
#ifdef EDGES
        vec3 least_place = least * u_texel;
        vec3 most_place = most * u_texel;
#endif
#else
        vec3 po = o * scale + offset;
        vec3 pd = d * scale;
        vec3 middle = slot + 0.5;
#endif
#if !defined(FLOAT) && !defined(LABELS) && !(defined(RGB) && (defined(MIP) || defined(MINIP)))
        some = some || wanted;
#endif
#if defined(LABELS) && !defined(ALPHA)
        for (float i = begin; i < to; i += stride) {
            SAMPLES value = SAMPLE(i);
            if (value != vec4(0.0)) { shown = value; hit = i; done = true; break; }
        }
#elif defined(ISO)
        for (float i = begin; i < to; i += stride) {
            SAMPLES value = SAMPLE(i);
            if (brightness(value) >= u_threshold) {
                shown = value;
                hit = i;
                hit_offset = offset;
                hit_scale = scale;
                hit_slot = slot;
                hit_least = least;
                hit_most = most;
                done = true;
                break;
            }
        }
#elif defined(ALPHA)
        for (float i = begin; i < to && sum.a <= 0.995; i += 1.0) {
            SAMPLES value = SAMPLE(i);
#ifdef LABELS
            vec4 adds = colored(value);
            adds.a *= u_sample_alpha;
#elif defined(RGB)
            vec4 adds = colored(value);
            adds.a *= u_opacity * dot(adds.rgb, vec3(0.2126, 0.7152, 0.0722));
            adds.a = 1.0 - pow(1.0 - adds.a, u_step_world);
#else
            float x = windowed(value);
#ifdef PLAIN
            float solid = u_opacity * x;
            vec4 adds = vec4(vec3(solid * x), solid);
#else
            vec4 adds = texture2D(u_transfer, vec2((x * (TABLE_SIZE - 1.0) + 0.5) / TABLE_SIZE, 0.5));
#endif
#endif
#if defined(LABELS) || defined(RGB)
            adds.rgb *= adds.a;
#endif
            if (is_number(brightness(value))) sum += (1.0 - sum.a) * adds;
        }
        done = sum.a > 0.995;
#else
        for (float i = begin; i < to; i += stride) {
            SAMPLES value = SAMPLE(i);
#if defined(MIP) && !defined(RGB) && !defined(FLOAT)
            best = max(best, value);
#elif defined(MINIP) && !defined(RGB) && !defined(FLOAT)
            best = min(best, value);
#else
            float bright = brightness(value);
#ifdef MIP
            if (bright > best || (!some && is_number(bright))) { best = bright; shown = value; some = true; }
#elif defined(MINIP)
            if (bright < best || (!some && is_number(bright))) { best = bright; shown = value; some = true; }
#else
            if (is_number(bright)) {
                some = true;
#ifdef MEAN
#ifdef RGB
                float alpha = u_samples == 2.0 ? value.y : u_samples == 4.0 ? value.w : 1.0;
                sum += stride * vec4((u_samples == 2.0 ? value.xxx : value.xyz) * alpha, alpha);
#else
                sum.x += stride * value;
#endif
                count += stride;
#else
                float part = windowed(bright);
                float left = exp(-u_attenuation * thickness);
                if (part * left > best) { best = part * left; light = left; shown = value; }
                thickness += part * stride;
#endif
            }
#endif
#endif
        }
#if defined(MIP)
        done = some && best >= u_bounds.y;
#elif defined(MINIP)
        done = some && best <= u_bounds.x;
#elif defined(ATTENUATED)
        done = exp(-u_attenuation * thickness) <= best;
#endif
#endif
#endif
        j += vec3(lessThanEqual(leaves, vec3(to)));
        at = to;
    }

#ifdef COUNT
    gl_FragColor = sum;
#elif defined(ALPHA)
    if (sum.a == 0.0) discard;
#ifdef OPAQUE
    gl_FragColor = vec4(sum.rgb, 1.0);
#else
    gl_FragColor = vec4(sum.rgb / sum.a, sum.a);
#endif
#elif defined(LABELS)
    if (!done) discard;
    surface_at(hit + 0.5);
#ifndef DEPTH
    show(colored(shown), vec4(0.0));
#endif
#elif defined(ISO)
    if (!done) discard;
    surface_at(hit + 0.5);
#ifndef DEPTH
    light = lit((o + (hit + 0.5) * d) * hit_scale + hit_offset, hit_slot, hit_least, hit_most, hit_scale, d);
#ifdef RGB
    vec4 color = colored(shown);
#else
    vec4 color = u_surface;
#endif
    show(vec4(color.rgb * light, color.a), vec4(0.0));
#endif
#else
    if (!some && nans == 0.0) discard;
#ifdef MEAN
#ifdef RGB
    vec4 value = vec4(sum.rgb / max(sum.a, 1e-6), sum.a / max(count, 1.0));
    if (u_samples == 2.0) value.y = value.w;
#else
    vec4 value = vec4(sum.x / max(count, 1.0));
#endif
#elif defined(RGB) || defined(ATTENUATED)
    vec4 value = vec4(shown);
#else
    vec4 value = vec4(best);
#endif
#if defined(ATTENUATED) && !defined(RGB)
    vec4 color = tinted(best);
#else
    vec4 color = colored(value);
    color.rgb *= light;
#endif
    if (!some) color = u_nan_color;
    show(color, vec4(0.0));
#endif
}
#endif
