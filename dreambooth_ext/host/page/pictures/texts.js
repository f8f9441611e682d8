// The English texts about what the picture doctor finds; shared/texts.js translates them.

export const FINDINGS = {
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
