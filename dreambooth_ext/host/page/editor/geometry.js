// Boxes in a picture that may be straightened, in pixels of its frame: [left, top, right, bottom]. What the server says
// of an edit counts (core/pictures/edit.py); this only keeps the hand within it.

const SLACK = 1; // pixels by which a corner may be off, as the server has it
export const SMALLEST = 16; // pixels of a side

/** The picture's size after quarter turns. */
export const frameOf = ([width, height], turns) => (turns % 2 ? [height, width] : [width, height]);

/** The largest box of the frame's proportions that a straightened picture covers. */
export function inscribed([width, height], degrees) {
    const angle = Math.abs(degrees) * Math.PI / 180;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const scale = Math.min(width / (width * cos + height * sin), height / (width * sin + height * cos));
    const [wide, high] = [width, height].map((side) => Math.max(1, Math.floor(scale * side + 1e-6)));
    const [left, top] = [Math.floor((width - wide) / 2), Math.floor((height - high) / 2)];
    return [left, top, left + wide, top + high];
}

/** Whether all corners of a box show the straightened picture. */
export function isInside([width, height], degrees, [left, top, right, bottom]) {
    const angle = degrees * Math.PI / 180;
    const [cos, sin, slack] = [Math.cos(angle), Math.sin(angle), degrees ? SLACK : 0];
    const within = (x, y) => x >= -slack && y >= -slack && x <= width + slack && y <= height + slack;
    return [[left, top], [right, top], [left, bottom], [right, bottom]].every(([x, y]) => {
        const [across, down] = [x - width / 2, y - height / 2];
        return within(x, y) && within(across * cos + down * sin + width / 2, down * cos - across * sin + height / 2);
    });
}

/** The box, moved and then made smaller about its middle until it is inside. */
export function fitted(frame, degrees, box) {
    const moved = moveIn(frame, box);
    const [x, y] = [(moved[0] + moved[2]) / 2, (moved[1] + moved[3]) / 2];
    for (let scale = 1; scale > 0.05; scale -= 0.01) {
        const half = [(moved[2] - moved[0]) / 2 * scale, (moved[3] - moved[1]) / 2 * scale];
        const tried = [Math.ceil(x - half[0]), Math.ceil(y - half[1]), Math.floor(x + half[0]), Math.floor(y + half[1])];
        if (isInside(frame, degrees, scale === 1 ? moved : tried)) return scale === 1 ? moved : tried;
    }
    return inscribed(frame, degrees);
}

/** The box in whole pixels, moved into the frame, and cut to its size if it is larger. */
export function moveIn([width, height], box) {
    const [wide, high] = [Math.min(Math.round(box[2] - box[0]), width), Math.min(Math.round(box[3] - box[1]), height)];
    const left = Math.min(Math.max(0, Math.round(box[0])), width - wide);
    const top = Math.min(Math.max(0, Math.round(box[1])), height - high);
    return [left, top, left + wide, top + high];
}

/** The same part of the picture after a quarter turn, clockwise (1) or not (-1). */
export function turnedBox([width, height], [left, top, right, bottom], by) {
    return by > 0 ? [height - bottom, left, height - top, right] : [top, width - right, bottom, width - left];
}

/** The largest box of these proportions (width / height) about the middle of another that fits into it. */
export function inProportion(box, ratio) {
    if (!ratio) return box;
    const [wide, high] = [box[2] - box[0], box[3] - box[1]];
    const [width, height] = wide / high > ratio ? [high * ratio, high] : [wide, wide / ratio];
    const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2].map(Math.round);
}

/**
 * A box from a corner that stays to a point, within the frame.
 * @param {number[]} anchor  @param {number[]} point  @param {number} ratio width / height, 0 for any
 */
export function spanned([width, height], anchor, point, ratio) {
    const right = point[0] >= anchor[0];
    const down = point[1] >= anchor[1];
    const room = [right ? width - anchor[0] : anchor[0], down ? height - anchor[1] : anchor[1]];
    let size = [Math.abs(point[0] - anchor[0]), Math.abs(point[1] - anchor[1])].map((side) => Math.max(SMALLEST, side));
    if (ratio) {
        const wide = Math.min(Math.max(size[0], size[1] * ratio), room[0], room[1] * ratio);
        size = [wide, wide / ratio];
    }
    size = size.map((side, axis) => Math.round(Math.min(side, room[axis])));
    const left = Math.round(right ? anchor[0] : anchor[0] - size[0]);
    const top = Math.round(down ? anchor[1] : anchor[1] - size[1]);
    return [left, top, left + size[0], top + size[1]];
}

/** A portrait's box about a face: the face whole, with hair and shoulders, as far as there is a picture. */
export function aboutFace(frame, face, ratio) {
    const [wide, high] = [face[2] - face[0], face[3] - face[1]];
    const side = Math.max(wide, high) * 2.4;
    const [x, y] = [(face[0] + face[2]) / 2, (face[1] + face[3]) / 2 + high * 0.25];
    const box = [x - side / 2, y - side / 2, x + side / 2, y + side / 2];
    const shaped = ratio > 1 ? [x - side * ratio / 2, box[1], x + side * ratio / 2, box[3]] : ratio ? [box[0], y - side / ratio / 2, box[2], y + side / ratio / 2] : box;
    const inside = moveIn(frame, shaped);
    return ratio ? inProportion(inside, ratio) : inside;
}

/**
 * A box of the visible picture in the frame of its original, turned so.
 * @param {{original: number[], edit: {turns: number}, box: number[]}} told as GET edits says
 */
export function inFrame({ original, edit, box: [left, top] }, turns, box) {
    let moved = [box[0] + left, box[1] + top, box[2] + left, box[3] + top];
    for (let now = edit.turns; now !== turns; now = (now + 1) % 4) moved = turnedBox(frameOf(original, now), moved, 1);
    return moved;
}

/** An ellipse about a face with its hair, in percent of the picture: left, top, width, height. */
export function ellipseOf([left, top, right, bottom], [width, height]) {
    const [wide, high] = [right - left, bottom - top];
    return [(left - wide * 0.25) / width, (top - high * 0.35) / height, wide * 1.5 / width, high * 1.6 / height].map((part) => part * 100);
}
