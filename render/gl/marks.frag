// Patterns in pixels of the frame: diagonals for what is pending, crosses for what failed.
uniform vec4 u_part;
uniform float u_opacity;
varying vec4 v_color;

void main() {
    vec2 pixel = floor(gl_FragCoord.xy);
#ifdef EXACT
    pixel += u_part.xy;
#endif
    vec3 color = v_color.rgb;
    if (v_color.a > 2.5) {
        vec2 cell = mod(pixel, 16.0);
        float along = abs(cell.x - cell.y);
        float across = abs(cell.x + cell.y - 15.0);
        if (min(min(along, 16.0 - along), min(across, 16.0 - across)) >= 1.5) color *= 0.2;
    } else if (v_color.a > 1.5) {
        if (mod(pixel.x + pixel.y, 12.0) >= 2.0) discard;
    }
    gl_FragColor = vec4(color, u_opacity);
}
