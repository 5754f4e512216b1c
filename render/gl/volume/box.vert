// One corner of a line: a rectangle in pixels of the frame.
uniform vec4 u_part;           // first pixel (x, y) and size (w, h) of this part of the frame
uniform float u_up;            // 1: row 0 of the framebuffer is the top row of the picture; -1: the lowest
attribute vec2 a_position;
attribute vec2 a_across;       // pixels from the line's middle, and half its width
attribute vec4 a_color;
varying vec2 v_across;
varying vec4 v_color;

void main() {
    v_across = a_across;
    v_color = a_color;
    gl_Position = vec4(((a_position - u_part.xy) / u_part.zw * 2.0 - 1.0) * vec2(1.0, u_up), 0.0, 1.0);
}
