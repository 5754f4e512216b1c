// A line with soft edges.
varying vec2 v_across;
varying vec4 v_color;

void main() {
    gl_FragColor = vec4(v_color.rgb, v_color.a * clamp(v_across.y + 0.5 - abs(v_across.x), 0.0, 1.0));
}
