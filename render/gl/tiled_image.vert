// One corner of a quad: a rectangle of the frame and the tile that fills it (attributes: quads.py).
// EXACT: positions are pixels of the frame. Otherwise they are relative to an origin, and vispy's transform, begun
// there, places them.
#extension GL_EXT_gpu_shader4 : enable
#ifdef GL_EXT_gpu_shader4
#define CONSTANT flat varying
#ifdef EXACT
#define LINEAR_IN_FRAME noperspective varying
#else
#define LINEAR_IN_FRAME varying
#endif
#else
#define CONSTANT varying
#define LINEAR_IN_FRAME varying
#endif

uniform vec4 u_part;           // EXACT: first pixel (x, y) and size (w, h) of this part of the frame
uniform vec2 u_texel;          // (w, h) of one texel of the page, where the whole page is 1
uniform vec2 u_window;         // low contrast limit, 1 / (high - low), in what the texture reads
attribute vec2 a_position;
attribute vec2 a_local;
attribute vec4 a_tile;
LINEAR_IN_FRAME vec2 v_local;
CONSTANT vec4 v_tile;
CONSTANT vec4 v_uniforms;

void main() {
    v_local = a_local;
    v_tile = a_tile;
    v_uniforms = vec4(u_texel, u_window);
#ifdef EXACT
    gl_Position = vec4((a_position - u_part.xy) / u_part.zw * 2.0 - 1.0, 0.0, 1.0);
#else
    gl_Position = $transform(vec4(a_position, 0.0, 1.0));
#endif
}
