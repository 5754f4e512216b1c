// Corners of the aids: patterns and lines over the image. EXACT: pixels; otherwise vispy's transform.
uniform vec4 u_part;           // EXACT: first pixel (x, y) and size (w, h) of this part of the frame
attribute vec2 a_position;
attribute vec4 a_color;        // not premultiplied; alpha: 1 plain, 2 hatch, 3 failed
varying vec4 v_color;

void main() {
    v_color = a_color;
#ifdef EXACT
    gl_Position = vec4((a_position - u_part.xy) / u_part.zw * 2.0 - 1.0, 0.0, 1.0);
#else
    gl_Position = $transform(vec4(a_position, 0.0, 1.0));
#endif
}
