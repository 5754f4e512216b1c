// One ray through planes of a volume: it is seen where it crosses them, exactly there, the nearest first. What is nothing (NaN,
// no label, alpha 0, not there yet) hides nothing. Included by march.frag, whose tables and variants it shares.
uniform vec3 u_at;             // where they lie across x, y and z
uniform vec3 u_on;             // 1 where there is one

vec3 cell_planes(vec3 number) {
    vec3 at = (number + 0.5) * u_planes_texel.x;
    return vec3(
        texture2D(u_planes, vec2(at.x, 0.5 * u_planes_texel.y)).r,
        texture2D(u_planes, vec2(at.y, 1.5 * u_planes_texel.y)).r,
        texture2D(u_planes, vec2(at.z, 2.5 * u_planes_texel.y)).r);
}

bool is_something(SAMPLES value) {
#ifdef LABELS
    return value != vec4(0.0);
#elif defined(RGB)
    float alpha = u_samples == 2.0 ? value.y : u_samples == 4.0 ? value.w : 1.0;
    return is_number(brightness(value)) && alpha > 0.0;
#else
    return is_number(value);
#endif
}

void main() {
    vec2 pixel = u_frame.xy + gl_FragCoord.xy * u_frame.zw;
    vec3 o = u_origin + pixel.x * u_across + pixel.y * u_down;
    vec3 d = u_step + pixel.x * u_step_across + pixel.y * u_step_down;
    d = mix(d, vec3(1e-12), vec3(lessThan(abs(d), vec3(1e-12))));
    vec3 t = (u_at - o) * (1.0 / d);
    vec3 left = u_on;
    vec4 sum = vec4(0.0);      // COUNT
    SAMPLES shown = SAMPLES(0.0);
    float hit = 0.0;
    bool done = false;
    for (int turn = 0; turn < 3; turn++) {
        // no mix(): a compiler may make it a + (b - a) x
        vec3 own = vec3(left.x > 0.0 ? t.x : 1e30, left.y > 0.0 ? t.y : 1e30, left.z > 0.0 ? t.z : 1e30);
        float at = min(min(own.x, own.y), own.z);
        vec3 across = own.x == at ? vec3(1.0, 0.0, 0.0) : own.y == at ? vec3(0.0, 1.0, 0.0) : vec3(0.0, 0.0, 1.0);
        bool is_inside = dot(across, left) > 0.0 && at >= u_range.x && at < u_range.y;
        left *= 1.0 - across;
        vec3 p = (o + (is_inside ? at : 0.0) * d) * (1.0 - across) + u_at * across;
        is_inside = is_inside && all(greaterThanEqual(p, u_first)) && all(lessThan(p, u_last));
        // the cell in which it lies, by halves
        vec3 j = vec3(0.0);
        for (float half_way = u_half; half_way >= 1.0; half_way *= 0.5) {
            vec3 number = j + half_way;
            vec3 plane = cell_planes(min(number, u_counts));
            j = mix(j, number, vec3(lessThanEqual(plane, p)) * vec3(lessThan(number, u_counts)));
        }
        vec2 entry = floor(texture3D(u_cells, (j + 0.5) * u_cells_texel).rg * 65535.0 + 0.5);
        float row = max(entry.x - 1.0, 0.0);
        is_inside = is_inside && entry.x > 0.0;
#ifdef COUNT
        float number = row_texel(row, 0.0).w - u_classes.x;
        float weight = number < 4.0 ? 1.0 : number < 8.0 ? u_classes.y : 0.0;
        if (is_inside) sum += vec4(equal(vec4(0.0, 1.0, 2.0, 3.0), vec4(mod(number, 4.0)))) * (weight * step(0.0, number));
#else
        vec4 r0 = row_texel(row, 0.0);
        Look look = look_of(entry.y);
        vec3 least, most;
#ifdef EDGES
        least = row_texel(row, 2.0).xyz;
        most = row_texel(row, 3.0).xyz;
#endif
        SAMPLES value = texel(p * look.scale + r0.xyz, slot_of(row), least, most);
        if (!done && is_inside && look.has_value && is_something(value)) {
            done = true;
            hit = at;
            shown = value;
        }
#endif
    }
#ifdef COUNT
    gl_FragColor = sum;
#else
    if (!done) discard;
    surface_at(hit);
#ifndef DEPTH
    show(colored(vec4(shown)), vec4(0.0));
#endif
#endif
}
