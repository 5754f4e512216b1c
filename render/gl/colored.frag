// From a value to a colour: shared by all visuals that ColoredVisual is the base of. WINDOW must be defined: low contrast
// limit, 1 / (high - low), in what the texture reads.
uniform sampler2D u_table;     // TABLE: TABLE_SIZE x 1 colours, by the root of the value
uniform float u_gamma;
uniform float u_opacity;
uniform float u_samples;       // RGB: samples per texel
uniform vec4 u_nan_color;

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
    vec3 rgb = clamp((value.xyz - WINDOW.x) * WINDOW.y, 0.0, 1.0);
#ifdef GAMMA
    rgb = pow(rgb, vec3(u_gamma));
#endif
    return vec4(rgb, alpha);
}
#else
// Of a value from 0 to 1; what lies outside of these is cut.
vec4 tinted(float x) {
#ifdef TABLE
    float place = sqrt(clamp(x, 0.0, 1.0)) * (TABLE_SIZE - 1.0) + 0.5;
    return texture2D(u_table, vec2((floor(place) + 0.5) / TABLE_SIZE, 0.5));
#else
    return vec4(x, x, x, 1.0);  // one value to convert to a byte, not four; OpenGL itself cuts it to 0 to 1
#endif
}

vec4 colored(vec4 value) {
    return tinted((value.x - WINDOW.x) * WINDOW.y);
}
#endif
#endif

// The pixel's colour, of a value with these samples.
void show(vec4 color, vec4 value) {
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
