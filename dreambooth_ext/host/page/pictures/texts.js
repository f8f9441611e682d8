// The English texts about copies, and what the picture doctor finds; shared/texts.js translates them.

export const FINDINGS = {
    copying: {
        title: "Copying the pictures",
        progress: "{done} of {total} files",
        stop: "Stop",
        stopped: "The copying was stopped. Nothing of the copy is left.",
        unread: "Pictures in formats that training does not read, such as HEIC: {count}",
        convert: "Convert them in a copy",
        leftOut: "Not in the copy, since they cannot be read: {names}",
    },
    findings: {
        title: "Are the pictures good?",
        looking: "Looking at the pictures: {done} of {count}",
        later: "The pictures are looked at when the trainer is ready.",
        score: "Score: {score} of 100",
        good: "Nothing is wrong with them.",
        why: "What it lost points for",
        sheet: "Contact sheet",
        missing: "Left out:",
        failed: "The pictures cannot be looked at:",
    },
};
